"""Small pictures of the first difference, for reports."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.records import Crop
from gemma4_mm.spec import MERGED_PATCH_PX

_PIXELS: Final = 96  # side of a window of an image
_TOKENS: Final = 128  # side of a window of a mask


def crop_around(stage: str, expected: NDArray[Any], actual: NDArray[Any], index: tuple[int, ...]) -> Crop | None:
    """Cut the same window of both arrays around `index`; None for a stage that is no picture.

    Patches become the 48×48 px picture of the one that differs first, their 0…1 rounded to levels.
    """
    if stage in ("source_rgb", "resized_rgb"):
        where = f"frame {index[0]}" if expected.ndim == 4 else ""
        lead = index[:-3]
        return _window(expected[lead], actual[lead], index[-3:-1], side=_PIXELS, where=where)
    if stage in ("patches", "pixel_values", "pixel_values_videos"):
        pictures = [_levels(array[index[:-1]]) for array in (expected, actual)]
        where = " ".join(["patch", *map(str, index[:-1])])
        return Crop(expected=pictures[0], actual=pictures[1], origin=(0, 0), where=where)
    if stage.startswith("mask_"):
        return _window(expected[index[0]], actual[index[0]], index[1:], side=_TOKENS, where=f"row {index[0]}")
    return None


def _window(expected: NDArray[Any], actual: NDArray[Any], centre: tuple[int, ...], *, side: int, where: str) -> Crop:
    top, left = (
        max(min(place - side // 4, length - side), 0) for place, length in zip(centre, expected.shape, strict=False)
    )
    cut = (slice(top, top + side), slice(left, left + side))
    windows = [np.array(array[cut]).clip(0, 255).astype(np.uint8) for array in (expected, actual)]
    return Crop(expected=windows[0], actual=windows[1], origin=(top, left), where=where)


def _levels(patch: NDArray[Any]) -> NDArray[np.uint8]:
    with np.errstate(invalid="ignore"):
        levels = np.nan_to_num(patch.astype(np.float64) * 255).round().clip(0, 255).astype(np.uint8)
    picture: NDArray[np.uint8] = levels.reshape(MERGED_PATCH_PX, MERGED_PATCH_PX, 3)
    return picture
