"""The pixel work of a call: a grid a medium, and torch tensors that our kernels write in place."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.geometry import fill_grid, plan_image
from gemma4_mm.core.vision.patches import encode_frames, encode_image
from gemma4_mm.core.vision.resize import ArrayRows, RowSource
from gemma4_mm.errors import InputError, InvariantError, MissingDependencyError
from gemma4_mm.execution import Execution, Kernel
from gemma4_mm.hf.rule import PixelRule
from gemma4_mm.hf.theirs import torch
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.spec import MERGED_PATCH_PX, PATCH_VALUES


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Tensors as transformers returns them.

    Attributes:
        values: float32 `(images or frames, max_soft_tokens, 6912)`, zeros behind each one's patches.
        positions: int64 `(images or frames, max_soft_tokens, 2)`, -1 behind.
    """

    values: Any
    positions: Any


def default_execution() -> Execution:
    """The compiled kernel where it works, on as many threads as torch may use."""
    return Execution(kernel=_best_kernel(), threads=max(1, min(256, torch.get_num_threads())))


@cache
def _best_kernel() -> Kernel:
    """Load the compiled kernel, if it is installed and passes its check here."""
    if importlib.util.find_spec("numba") is None:
        return "numpy"
    side = MERGED_PATCH_PX
    try:
        encode_image(
            ArrayRows(np.zeros((side, side, 3), np.uint8)),
            np.empty((1, PATCH_VALUES), np.float32),
            grid=PatchGrid(rows=1, columns=1),
            execution=Execution(kernel="numba"),
        )
    except (MissingDependencyError, InvariantError):
        return "numpy"
    return "numba"


def plan_sizes(sizes: Sequence[tuple[int, int]], *, max_soft_tokens: int) -> list[PatchGrid] | None:
    """Choose a grid for every (height, width); None if one is refused, so that transformers raises its own error."""
    try:
        return [plan_image(height_px=h, width_px=w, max_soft_tokens=max_soft_tokens) for h, w in sizes]
    except InputError:
        return None


def encode_images(
    sources: Sequence[RowSource], grids: Sequence[PatchGrid], *, rule: PixelRule, execution: Execution
) -> Patches:
    """Encode images of any sizes into tensors of one batch."""
    patches = _allocate(len(sources), rule=rule)
    values = patches.values.numpy()
    positions = patches.positions.numpy()

    def encode(index: int) -> None:
        fill_grid(grids[index], pixels=values[index], positions=positions[index])
        encode_image(sources[index], values[index], grid=grids[index], rescale=rule.rescale, execution=execution)

    execution.spread(encode, range(len(sources)))
    return patches


def encode_videos(
    videos: Sequence[NDArray[np.uint8]], grids: Sequence[PatchGrid], *, rule: PixelRule, execution: Execution
) -> Patches:
    """Encode videos, uint8 `(frames, height, width, 3)` of any strides, into tensors, frame behind frame.

    Source: transformers 5.24 `Gemma4UnifiedVideoProcessor._preprocess`.
    """
    patches = _allocate(sum(map(len, videos)), rule=rule)
    values = patches.values.numpy()
    positions = patches.positions.numpy()
    first = 0
    for video, grid in zip(videos, grids, strict=True):
        chosen = slice(first, first + len(video))
        fill_grid(grid, pixels=values[chosen], positions=positions[chosen])
        encode_frames(video, values[chosen], grid=grid, rescale=rule.rescale, execution=execution)
        first += len(video)
    return patches


def _allocate(n_items: int, *, rule: PixelRule) -> Patches:
    """Memory of torch's, as whoever pins or resizes it expects."""
    return Patches(
        values=torch.empty((n_items, rule.max_soft_tokens, PATCH_VALUES), dtype=torch.float32, device="cpu"),
        positions=torch.empty((n_items, rule.max_soft_tokens, 2), dtype=torch.int64, device="cpu"),
    )
