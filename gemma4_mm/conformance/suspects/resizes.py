"""Resizes that are not torchvision's uint8 bicubic: Pillow's, those in floating point, and what else is met."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.resize import ArrayRows, resize_rgb
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.optional import require

Rgb = NDArray[np.uint8]
Resize = Callable[[Rgb, PatchGrid], Rgb]
_MOST_PRECISION: Final = 22
_WEIGHT_LIMIT: Final = 1 << 15


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


def _in_fixed_point(*, a: float = -0.5, dtype: type[np.floating[Any]] = np.float64, late: bool = False) -> Resize:
    """The right passes with other weights: another cubic, or the arithmetic of an axis in `dtype` (`late`: its end)."""

    def resize(source: Rgb, grid: PatchGrid) -> Rgb:
        wide = _pass(source, grid.width_px, a=a, dtype=dtype, late=late)
        turned = np.ascontiguousarray(wide.swapaxes(0, 1))
        return _pass(turned, grid.height_px, a=a, dtype=dtype, late=late).swapaxes(0, 1)

    return resize


def _pass(pixels: Rgb, n_out: int, *, a: float, dtype: type[np.floating[Any]], late: bool) -> Rgb:
    """One pass over the second axis of uint8 `(rows, n, 3)`, in 32-bit integers."""
    n_in = pixels.shape[1]
    if n_in == n_out:
        return pixels
    early = np.float64 if late else dtype
    scale = early(n_in) / early(n_out)
    support, stretch = early(2) * max(scale, early(1)), max(scale, early(1))
    centres = scale * (np.arange(n_out).astype(early) + early(0.5))
    first = np.maximum((centres - support + early(0.5)).astype(np.int64), 0)
    stop = np.minimum((centres + support + early(0.5)).astype(np.int64), n_in)
    taps = np.arange(int((stop - first).max()))
    away = np.abs(((taps + first[:, None]).astype(early) - centres[:, None] + early(0.5)) * (early(1) / stretch))
    weights = np.where(taps < (stop - first)[:, None], _cubic(away, a), 0).astype(early)
    weights = (weights / np.add.accumulate(weights, axis=1)[:, -1:]).astype(dtype)
    precision, largest = 0, float(weights.max())
    while precision < _MOST_PRECISION and int(0.5 + largest * 2 ** (precision + 1)) < _WEIGHT_LIMIT:
        precision += 1
    fixed = np.trunc(weights * dtype(2.0**precision) + np.where(weights < 0, -0.5, 0.5)).astype(np.int32)
    total = np.full((len(pixels), n_out, 3), 1 << (precision - 1), np.int32)
    for tap in range(fixed.shape[1]):
        total += fixed[:, tap, None] * pixels[:, np.minimum(first + tap, n_in - 1)]
    done: Rgb = (total >> precision).clip(0, 255).astype(np.uint8)
    return done


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
    "bicubic-sharper": (
        "bicubic with a = -0.75, as OpenCV's; torch's antialiased one has a = -0.5",
        _in_fixed_point(a=-0.75),
    ),
    "float32-weights": (
        "weights rounded to float32 before they become whole numbers; keep them in float64",
        _in_fixed_point(dtype=np.float32, late=True),
    ),
    "float32-axis": (
        "weights computed in float32 (Float, f32) from the start; compute them in float64",
        _in_fixed_point(dtype=np.float32),
    ),
    "columns-first": ("the right bicubic, but the vertical pass before the horizontal one", _columns_first),
    "letterboxed": ("bars around the picture instead of the whole size filled", _letterboxed),
}
