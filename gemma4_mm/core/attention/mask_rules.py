"""The three attention rules, each as a formula, as a drawing, and as one range of keys per query.

q and k are places in the row, W is the sliding window, and block(q, k) means that q and k lie in the same vision block.
Every rule lets a query see one unbroken range of keys, since the range always holds the query itself: that is why a
mask costs two numbers per token. The drawings are for W = 3 and the tokens `a I I I I b c`, where the four `I` are one
vision block, longer than the window; a row is a query, a column a key, 1 = attend. A test computes them from the
formulas.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.attention.blocks import TokenRuns
from gemma4_mm.spec import MaskRule

LayerKind = Literal["full_attention", "sliding_attention"]


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyRanges:
    """The keys `[starts, stops)` that each query sees, before padding is taken away.

    Attributes:
        starts: int32 `(batch, length)`.
        stops: int32 `(batch, length)`, above `starts`.
    """

    starts: NDArray[np.int32]
    stops: NDArray[np.int32]


Rule = Callable[[TokenRuns, LayerKind, int], KeyRanges]


def forward(runs: TokenRuns, layer: LayerKind, window: int) -> KeyRanges:
    """`Gemma4UnifiedModel.forward`, hence default `generate`: blocks are seen whole on every layer.

    full_attention: k ≤ q ∨ block(q, k)

        1 0 0 0 0 0 0
        1 1 1 1 1 0 0
        1 1 1 1 1 0 0
        1 1 1 1 1 0 0
        1 1 1 1 1 0 0
        1 1 1 1 1 1 0
        1 1 1 1 1 1 1

    sliding_attention: (k ≤ q ∧ k > q − W) ∨ block(q, k)

        1 0 0 0 0 0 0
        1 1 1 1 1 0 0
        1 1 1 1 1 0 0
        0 1 1 1 1 0 0
        0 1 1 1 1 0 0
        0 0 0 1 1 1 0
        0 0 0 0 1 1 1

    Source: transformers 5.24 `create_masks_for_generate(block_sequence_ids=…)`.
    """
    if layer == "full_attention":
        return KeyRanges(starts=runs.sequence_start, stops=runs.block_stop)
    lowest = np.minimum(_places(runs) - np.int32(window - 1), runs.block_start)
    return KeyRanges(starts=np.maximum(lowest, runs.sequence_start), stops=runs.block_stop)


def static(runs: TokenRuns, layer: LayerKind, window: int) -> KeyRanges:
    """`generate` with a compilable cache since 5.13: blocks on sliding layers only, and cut by the window.

    full_attention: k ≤ q

        1 0 0 0 0 0 0
        1 1 0 0 0 0 0
        1 1 1 0 0 0 0
        1 1 1 1 0 0 0
        1 1 1 1 1 0 0
        1 1 1 1 1 1 0
        1 1 1 1 1 1 1

    sliding_attention: k > q − W ∧ (k ≤ q ∨ block(q, k))

        1 0 0 0 0 0 0
        1 1 1 1 1 0 0
        1 1 1 1 1 0 0
        0 1 1 1 1 0 0
        0 0 1 1 1 0 0
        0 0 0 1 1 1 0
        0 0 0 0 1 1 1

    Source: transformers 5.24 `create_masks_for_vision_model`.
    """
    if layer == "full_attention":
        return KeyRanges(starts=runs.sequence_start, stops=_causal_stop(runs))
    return KeyRanges(starts=_window_start(runs, window), stops=runs.block_stop)


def deepmind(runs: TokenRuns, layer: LayerKind, window: int) -> KeyRanges:
    """google-deepmind/gemma: as `static`, but the window cuts on both sides.

    full_attention: k ≤ q

        1 0 0 0 0 0 0
        1 1 0 0 0 0 0
        1 1 1 0 0 0 0
        1 1 1 1 0 0 0
        1 1 1 1 1 0 0
        1 1 1 1 1 1 0
        1 1 1 1 1 1 1

    sliding_attention: |q − k| < W ∧ (k ≤ q ∨ block(q, k))

        1 0 0 0 0 0 0
        1 1 1 1 0 0 0
        1 1 1 1 1 0 0
        0 1 1 1 1 0 0
        0 0 1 1 1 0 0
        0 0 0 1 1 1 0
        0 0 0 0 1 1 1

    Source: google-deepmind/gemma `gm/nn/gemma4` (the sliding mask of its attention module).
    """
    if layer == "full_attention":
        return KeyRanges(starts=runs.sequence_start, stops=_causal_stop(runs))
    stops = np.minimum(runs.block_stop, _places(runs) + np.int32(window))
    return KeyRanges(starts=_window_start(runs, window), stops=stops)


RULES: Final[Mapping[MaskRule, Rule]] = {"forward": forward, "static": static, "deepmind": deepmind}


def _places(runs: TokenRuns) -> NDArray[np.int32]:
    return np.arange(runs.block_ids.shape[1], dtype=np.int32)


def _causal_stop(runs: TokenRuns) -> NDArray[np.int32]:
    return np.broadcast_to(_places(runs) + np.int32(1), runs.block_ids.shape)


def _window_start(runs: TokenRuns, window: int) -> NDArray[np.int32]:
    starts: NDArray[np.int32] = np.maximum(_places(runs) - np.int32(window - 1), runs.sequence_start)
    return starts
