"""Target size, soft-token grid and position ids of an image or video frame, from its size alone."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.errors import InputError
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.releases import DEFAULT_PROFILE
from gemma4_mm.spec import MERGED_PATCH_PX, check_budget


def plan_image(*, height_px: int, width_px: int, max_soft_tokens: int = DEFAULT_PROFILE.image_soft_tokens) -> PatchGrid:
    """Choose the largest aspect-preserving grid within the budget; images are scaled up to fill it, too.

    A side that would round to 0 becomes one patch, and the other side the whole-number aspect ratio, at most the
    budget. Source: transformers 5.24 `get_aspect_ratio_preserving_size`, whose float64 operations are repeated in
    the same order.

    Args:
        height_px: height of the source image, at least 1.
        width_px: width of the source image, at least 1.
        max_soft_tokens: the budget, one of 70, 140, 280, 560, 1120.

    Raises:
        InputError: an empty image, an unknown budget, or a grid over the budget, where HF raises ValueError.
    """
    check_budget(max_soft_tokens)
    if height_px < 1 or width_px < 1:
        raise InputError(f"image is {width_px}×{height_px} px; each side must be at least 1 px; check the source")
    factor = math.sqrt(max_soft_tokens * MERGED_PATCH_PX**2 / (height_px * width_px))
    rows = math.floor(factor * height_px / MERGED_PATCH_PX)
    columns = math.floor(factor * width_px / MERGED_PATCH_PX)
    if rows == 0 and columns == 0:
        raise InputError(f"image of {width_px}×{height_px} px would be resized to 0×0 px; use a larger budget")
    if rows == 0:
        rows, columns = 1, min(math.floor(width_px / height_px), max_soft_tokens)
    elif columns == 0:
        rows, columns = min(math.floor(height_px / width_px), max_soft_tokens), 1
    if rows * columns > max_soft_tokens:
        raise InputError(
            f"image of {width_px}×{height_px} px would need {rows}×{columns} = {rows * columns} soft tokens; the "
            f"budget is {max_soft_tokens}; crop it to a less extreme aspect ratio"
        )
    return PatchGrid(rows=rows, columns=columns)


def position_ids(grid: PatchGrid) -> NDArray[np.int64]:
    """Return int64 `(grid.n_tokens, 2)`: (x, y) of each merged patch, row-major over the grid.

    A 2×3 grid gives (0,0) (1,0) (2,0) (0,1) (1,1) (2,1). Source: transformers 5.24 `patches_merge`.
    """
    ids = np.empty((grid.rows, grid.columns, 2), np.int64)
    ids[..., 0] = np.arange(grid.columns)
    ids[..., 1] = np.arange(grid.rows)[:, None]
    return ids.reshape(-1, 2)


def fill_grid(grid: PatchGrid, *, pixels: NDArray[Any], positions: NDArray[np.int64]) -> None:
    """Write the position ids of an image or of frames, and what pads its rows: patches of 0, positions of -1.

    Args:
        grid: of one image or frame; its patches are in the first rows, and stay as they are.
        pixels: `(…, max_soft_tokens, 6912)`.
        positions: int64 `(…, max_soft_tokens, 2)`.

    Source: transformers 5.24 `Gemma4UnifiedImageProcessor._preprocess`.
    """
    pixels[..., grid.n_tokens :, :] = 0
    positions[..., : grid.n_tokens, :] = position_ids(grid)
    positions[..., grid.n_tokens :, :] = -1
