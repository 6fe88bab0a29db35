"""Resizes that are not torchvision's uint8 bicubic: Pillow's, those in floating point, and what else is met."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.resize import ArrayRows, resize_rgb
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.optional import require

Rgb = NDArray[np.uint8]
Resize = Callable[[Rgb, PatchGrid], Rgb]


def _pillow(filter_name: str) -> Resize:
    def resize(source: Rgb, grid: PatchGrid) -> Rgb:
        pillow = require("PIL.Image")
        image = pillow.fromarray(source).resize((grid.width_px, grid.height_px), pillow.Resampling[filter_name])
        return np.array(image)

    return resize


def _in_floats(*, a: float, antialias: bool) -> Resize:
    """Both passes in float32 with one rounding at the end; `a` is the Keys cubic's parameter."""

    def resize(source: Rgb, grid: PatchGrid) -> Rgb:
        down = _cubic_matrix(source.shape[0], grid.height_px, a=a, antialias=antialias)
        across = _cubic_matrix(source.shape[1], grid.width_px, a=a, antialias=antialias)
        pixels = np.einsum("xw,hwc->hxc", across, source.astype(np.float32), optimize=True)
        pixels = np.einsum("yh,hxc->yxc", down, pixels, optimize=True)
        resized: Rgb = np.rint(pixels).clip(0, 255).astype(np.uint8)
        return resized

    return resize


def _cubic_matrix(n_in: int, n_out: int, *, a: float, antialias: bool) -> NDArray[np.float32]:
    """Weights float32 `(n_out, n_in)`; without antialiasing four taps each, their edges repeated."""
    if n_in == n_out:
        return np.eye(n_in, dtype=np.float32)
    scale = n_in / n_out
    stretch = max(scale, 1.0) if antialias else 1.0
    centres = scale * (np.arange(n_out) + 0.5) - 0.5
    reach = int(np.ceil(2 * stretch)) + 1
    matrix = np.zeros((n_out, n_in))
    for offset in range(-reach, reach + 1):
        taps = np.floor(centres).astype(np.int64) + offset
        weights = _cubic(np.abs(taps - centres) / stretch, a)
        if antialias:
            weights = np.where((taps >= 0) & (taps < n_in), weights, 0.0)
        np.add.at(matrix, (np.arange(n_out), taps.clip(0, n_in - 1)), weights)
    weights = matrix / matrix.sum(axis=1, keepdims=True)
    rounded: NDArray[np.float32] = weights.astype(np.float32)
    return rounded


def _cubic(x: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _columns_first(source: Rgb, grid: PatchGrid) -> Rgb:
    turned = resize_rgb(
        ArrayRows(np.ascontiguousarray(source.swapaxes(0, 1))), grid=PatchGrid(rows=grid.columns, columns=grid.rows)
    )
    return turned.swapaxes(0, 1)


def _letterboxed(source: Rgb, grid: PatchGrid) -> Rgb:
    """Pillow's bicubic into the largest box of the same aspect ratio, on black, in the middle."""
    height, width = source.shape[:2]
    factor = min(grid.height_px / height, grid.width_px / width)
    box_height, box_width = max(int(height * factor), 1), max(int(width * factor), 1)
    pillow = require("PIL.Image")
    small = np.array(pillow.fromarray(source).resize((box_width, box_height), pillow.Resampling.BICUBIC))
    out = np.zeros((grid.height_px, grid.width_px, 3), np.uint8)
    top, left = (grid.height_px - box_height) // 2, (grid.width_px - box_width) // 2
    out[top : top + box_height, left : left + box_width] = small
    return out


RESIZES: Final[Mapping[str, tuple[str, Resize]]] = {
    "pillow-bicubic": ("Pillow's bicubic", _pillow("BICUBIC")),
    "pillow-lanczos": ("Pillow's Lanczos", _pillow("LANCZOS")),
    "pillow-bilinear": ("Pillow's bilinear", _pillow("BILINEAR")),
    "pillow-nearest": ("the nearest pixel", _pillow("NEAREST")),
    "pillow-box": ("Pillow's box filter (area averaging)", _pillow("BOX")),
    "float-bicubic": ("bicubic in floating point, rounded once at the end", _in_floats(a=-0.5, antialias=True)),
    "float-bicubic-aliased": ("bicubic in floating point without antialiasing", _in_floats(a=-0.75, antialias=False)),
    "float-keys-aliased": (
        "bicubic (a = -0.5) in floating point without antialiasing",
        _in_floats(a=-0.5, antialias=False),
    ),
    "float-bicubic-sharper": (
        "bicubic (a = -0.75) in floating point, antialiased",
        _in_floats(a=-0.75, antialias=True),
    ),
    "columns-first": ("the right bicubic, but the vertical pass before the horizontal one", _columns_first),
    "letterboxed": ("bars around the picture instead of the whole size filled", _letterboxed),
}
