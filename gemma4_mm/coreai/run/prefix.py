"""What the tokens of a prompt stand for, and how long a prefix two prompts share.

Two placeholders are the same token only if the same medium stands behind them: ids alone would reuse the keys and
values of another picture. So the soft tokens of an item carry its content key.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.attention.blocks import find_runs
from gemma4_mm.core.tokens.segments import check_segments
from gemma4_mm.errors import InputError, InvariantError
from gemma4_mm.inputs import ModelInputs, SegmentKind
from gemma4_mm.spec import TYPE_TEXT, MediaKind


@dataclass(frozen=True, kw_only=True)
class MediaSpan:
    """The soft tokens `[start, stop)` of one image, video frame or audio.

    Attributes:
        key: content key of the item, see `ModelInputs.content_keys`.
        frame: the frame within its video; None for images and audio.
    """

    start: int
    stop: int
    kind: MediaKind
    key: str
    frame: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptTokens:
    """One unpadded token sequence.

    Attributes:
        ids: int64 `(tokens,)`.
        types: `mm_token_type_ids`, int64 `(tokens,)`.
        spans: the media in order of their tokens.
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    spans: tuple[MediaSpan, ...] = ()

    @classmethod
    def from_inputs(cls, inputs: ModelInputs) -> "PromptTokens":
        """Read one encoded prompt, and check that its tokens, segments and tensors agree.

        Raises:
            InputError: several rows, padding, missing tensors, or placeholders that do not fit the media.
        """
        try:
            return cls._read(inputs)
        except InputError:
            raise
        except (LookupError, AttributeError, TypeError, ValueError, InvariantError) as error:
            raise InputError(
                f"the encoded prompt does not fit together ({type(error).__name__}: {error}); encode it with "
                "Processor, and change nothing in it"
            ) from error

    @classmethod
    def _read(cls, inputs: ModelInputs) -> "PromptTokens":
        ids, types = inputs["input_ids"], inputs["mm_token_type_ids"]
        if ids.ndim != 2 or ids.shape[0] != 1 or not ids.size or types.shape != ids.shape:
            raise InputError(
                f"input_ids are {list(ids.shape)}; a session runs one prompt at a time; encode a single conversation"
            )
        if ids.dtype.kind not in "iu" or types.dtype.kind not in "iu":
            raise InputError(f"input_ids are {ids.dtype}, mm_token_type_ids {types.dtype}; both must be integers")
        if any(segment.kind == "padding" for segment in inputs.segments):
            raise InputError("the prompt holds padding; encode it alone, and without padding='max_length'")
        if unknown := {segment.kind for segment in inputs.segments} - set(get_args(SegmentKind)):
            raise InputError(f"segments of the unknown kind {', '.join(map(str, unknown))}; encode with Processor")
        check_segments(inputs.segments, mm_token_type_ids=types, valid_rows=_valid_rows(inputs))
        keys, n_frames = inputs.content_keys, Counter[int]()
        spans = []
        for segment in inputs.segments:
            if segment.kind == "text" or segment.kind == "padding" or segment.item is None:
                continue
            if segment.kind == "video":
                frame, n_tokens = n_frames[segment.item], inputs.video_patches(segment.item).shape[1]
                n_frames[segment.item] += 1
                if segment.frame != frame or segment.n_tokens != n_tokens:
                    raise InputError(f"{segment} is not frame {frame}, of {n_tokens} tokens, of its video")
            elif segment.frame is not None:
                raise InputError(f"{segment} has a frame, and is no video")
            key = keys[segment.kind][segment.item]
            span = MediaSpan(start=segment.start, stop=segment.stop, kind=segment.kind, key=key, frame=segment.frame)
            spans.append(span)
        return cls(ids=ids[0].astype(np.int64), types=types[0].astype(np.int64), spans=tuple(spans))

    def followed_by(self, ids: Sequence[int], *, length: int) -> "PromptTokens":
        """These tokens and then text tokens, cut to `length`; a cut item keeps its span."""
        return PromptTokens(
            ids=np.concatenate([self.ids, np.array(ids, np.int64)])[:length],
            types=np.concatenate([self.types, np.full(len(ids), TYPE_TEXT)])[:length],
            spans=tuple(span for span in self.spans if span.start < length),
        )


def shared_prefix(held: PromptTokens, wanted: PromptTokens) -> int:
    """How many first tokens of `wanted` have the keys and values that were computed for `held`.

    The last token of `wanted` is never among them, since its logits are needed. The prefix ends in no vision block of
    either sequence: a block's tokens see each other, so that one which has grown, shrunk or changed is computed anew
    from its first token on.
    """
    n_ids = min(len(held.ids), len(wanted.ids) - 1)
    different = np.flatnonzero(held.ids[:n_ids] != wanted.ids[:n_ids])
    length = int(different[0]) if different.size else n_ids
    unshared = set(held.spans) ^ set(wanted.spans)
    length = min([length, *(span.start for span in unshared)])
    starts = [find_runs(tokens.types[None]).block_start[0] for tokens in (held, wanted)]
    while True:
        shorter = min([length, *(int(start[length]) for start in starts if length < len(start))])
        if shorter == length:
            return length
        length = shorter


def _valid_rows(inputs: ModelInputs) -> dict[MediaKind, list[int]]:
    """Tensor rows without padding per item; what `check_segments` holds against the tokens."""
    rows: dict[MediaKind, list[int]] = {"image": [], "video": [], "audio": []}
    if "pixel_values" in inputs:
        rows["image"] = [len(inputs.image_patches(item)) for item in range(len(inputs["pixel_values"]))]
    if "num_frames_per_video" in inputs or "pixel_values_videos" in inputs:
        n_videos = len(inputs["num_frames_per_video" if "num_frames_per_video" in inputs else "pixel_values_videos"])
        views = (inputs.video_patches(item) for item in range(n_videos))
        rows["video"] = [view.shape[0] * view.shape[1] for view in views]
    if "input_features" in inputs:
        rows["audio"] = [len(inputs.audio_frames(item)) for item in range(len(inputs["input_features"]))]
    return rows
