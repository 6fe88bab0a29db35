"""One prefill call: the tokens, positions, embeddings and masks of a chunk."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.attention.masks import Masks, describe_masks
from gemma4_mm.spec import MaskRule, MediaKind


@dataclass(frozen=True, kw_only=True)
class EmbeddingSlice:
    """Which embeddings of one image, video frame or audio go where in a chunk.

    Attributes:
        kind: image, video or audio.
        item: index among the media of this kind, as in `Segment`.
        frame: the frame within its video; None for images and audio.
        rows: embeddings of this item (of this frame, for a video); always all of them but for audio, which may be cut.
        tokens: the tokens of the chunk that they belong to, counted from the chunk's first.
    """

    kind: MediaKind
    item: int
    frame: int | None
    rows: slice
    tokens: slice


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptRow:
    """One row of a batch, as far as its masks need it.

    Attributes:
        types: `mm_token_type_ids`, int64 `(1, tokens)`.
        valid: bool `(1, tokens)`, False for padding.
        rule: the mask rule.
        sliding_window: W.
    """

    types: NDArray[np.int64]
    valid: NDArray[np.bool_]
    rule: MaskRule
    sliding_window: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """The tokens of one prefill call; its arrays are made when they are asked for.

    Attributes:
        tokens: the tokens of the row, as a slice; those before it are in the KV cache.
        padding: tokens to append to reach an allowed length. Their keys are hidden from the chunk's tokens, and the
            next chunk overwrites them.
        embeddings: soft tokens of the chunk, in order.
        row: the row that this is a chunk of.
    """

    tokens: slice
    padding: int
    embeddings: tuple[EmbeddingSlice, ...]
    row: PromptRow = field(repr=False)

    @property
    def n_tokens(self) -> int:
        """Tokens without padding."""
        return int(self.tokens.stop - self.tokens.start)

    @property
    def length(self) -> int:
        """Length of the call's `input_ids`: tokens and padding."""
        return self.n_tokens + self.padding

    @property
    def position_ids(self) -> NDArray[np.int32]:
        """The ramp `0 … past + length - 1`, int32 `(1, past + length)`, whose excess over `input_ids` is the past."""
        return np.arange(self.tokens.stop + self.padding, dtype=np.int32)[None]

    def masks(self) -> Masks:
        """Both masks, bool `(1, 1, length, past + length)`; a padding query attends as a text token there would."""
        stop, padding = self.tokens.stop, ((0, 0), (0, self.padding))
        specs = describe_masks(
            np.pad(self.row.types[:, :stop], padding),
            attention_mask=np.pad(self.row.valid[:, :stop], padding, constant_values=True),
            rule=self.row.rule,
            sliding_window=self.row.sliding_window,
        )
        return specs.rows(self.tokens.start, stop + self.padding)
