"""Resized images, rescaled and cut into merged 48 px patches, written once into their final place."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.kernels.accelerated import AcceleratedEncoder
from gemma4_mm.core.vision.kernels.kernel import choose_kernel
from gemma4_mm.core.vision.resize import ArrayRows, RowSource, StripResizer
from gemma4_mm.errors import InputError
from gemma4_mm.execution import DEFAULT_EXECUTION, Execution
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.spec import FLOAT_DTYPES, MERGED_PATCH_PX, PATCH_VALUES

Rescale = Literal["multiply", "divide"]
"""How levels become 0…1. HF multiplies images by 1/255 and divides video frames by 255: 126 of the 256 results differ
in the last bit."""

_RESCALE_FACTOR: Final = np.float32(1 / 255)
_RESCALE_DIVISOR: Final = np.float32(255)
_LARGE_PX: Final = 1 << 21  # from here on a band takes much longer than the rows that neighbouring bands both resize
_PATCH_ROW: Final = MERGED_PATCH_PX * 3  # values of one row of pixels of one patch


def encode_image(
    source: RowSource,
    out: NDArray[Any],
    *,
    grid: PatchGrid,
    rescale: Rescale = "multiply",
    execution: Execution = DEFAULT_EXECUTION,
) -> None:
    """Resize, rescale and cut an image, written straight into `out[:grid.n_tokens]`.

    Each row is one merged patch, row-major over the grid: 48 rows × 48 columns × RGB, flattened. Source: transformers
    5.24 `Gemma4UnifiedImageProcessor._preprocess`.

    Args:
        source: the decoded image.
        out: C-contiguous `(rows, 6912)`, at least `grid.n_tokens` rows, of float32, or of float16 or bfloat16, which
            get the float32 values rounded to nearest. Rows beyond, the padding, are left as they are: allocate with
            `np.zeros`, as HF pads with zeros.
        grid: from `plan_image`, for the size of `source`.
        rescale: see `Rescale`.
        execution: kernel and threads; with several, bands of the image are computed side by side.

    Raises:
        InputError: an empty source, or an `out` that cannot be written in place.
    """
    PatchEncoder(
        height_px=source.height_px, width_px=source.width_px, grid=grid, rescale=rescale, execution=execution
    ).encode(source, out)


def encode_frames(
    frames: Iterable[NDArray[np.uint8] | RowSource],
    out: NDArray[Any],
    *,
    grid: PatchGrid,
    rescale: Rescale = "divide",
    execution: Execution = DEFAULT_EXECUTION,
) -> None:
    """Encode frames of one size, each as `encode_image` does, written straight into `out[i, :grid.n_tokens]`.

    Frames are taken in order and one at a time, each when a thread is free for it, so that a generator that decodes
    them holds no more than `execution.threads` frames. Source: transformers 5.24
    `Gemma4UnifiedVideoProcessor._preprocess`.

    Args:
        frames: uint8 `(height, width, 3)` each, of any strides, or sources; an array of frames or any iterable.
        out: C-contiguous `(frames, rows, 6912)` of a dtype that `encode_image` takes; padding rows are left as they
            are.
        grid: from `plan_image`, for the size of the frames.
        rescale: see `Rescale`.
        execution: kernel and threads.

    Raises:
        InputError: frames of several sizes, more or fewer than `out` has places for, or an `out` that cannot be
            written in place.
    """
    # With a frame for every thread there is nothing to gain from cutting frames into bands.
    within = execution if len(out) < execution.threads else replace(execution, threads=1)
    encoder: PatchEncoder | None = None
    n_frames = 0

    def numbered() -> Iterator[tuple[int, RowSource, PatchEncoder]]:
        nonlocal encoder, n_frames
        for frame in frames:
            source = ArrayRows(frame) if isinstance(frame, np.ndarray) else frame
            if encoder is None:
                encoder = PatchEncoder(
                    height_px=source.height_px,
                    width_px=source.width_px,
                    grid=grid,
                    rescale=rescale,
                    execution=within,
                    n_sources=len(out),
                )
            n_frames += 1
            if n_frames > len(out):
                break
            yield n_frames - 1, source, encoder

    execution.spread(lambda job: job[2].encode(job[1], out[job[0]]), numbered())
    if n_frames != len(out):
        given = f"more than {len(out)}" if n_frames > len(out) else str(n_frames)
        raise InputError(f"{given} frames do not fit an output for {len(out)}; allocate one entry per frame")


class PatchEncoder:
    """Encodes any number of sources of one size; threads may share it.

    Raises:
        InputError: an empty source.
    """

    def __init__(
        self,
        *,
        height_px: int,
        width_px: int,
        grid: PatchGrid,
        rescale: Rescale,
        execution: Execution = DEFAULT_EXECUTION,
        n_sources: int = 1,
    ) -> None:
        """Plan for about `n_sources` sources of one size; the other arguments are those of `encode_image`."""
        if height_px < 1 or width_px < 1:
            raise InputError(f"image is {width_px}×{height_px} px; each side must be at least 1 px; check the source")
        self._height_px, self._width_px, self._grid = height_px, width_px, grid
        self._rescale, self._execution = rescale, execution
        self._kernel = choose_kernel(
            execution.kernel, grid=grid, height_px=height_px, width_px=width_px, n_sources=n_sources
        )
        first = self._new_worker()
        self._idle = [first]
        n_bands = execution.threads
        if n_bands > 1 and height_px * width_px >= _LARGE_PX:
            n_bands *= 2  # a thread that comes late still finds some
        self._bands = _even_ranges(first.n_strips, at_most=n_bands)

    def encode(self, source: RowSource, out: NDArray[Any]) -> None:
        """Encode one source into the first rows of `out`, as `encode_image` does.

        Raises:
            InputError: the source has another size, or `out` cannot be written in place.
        """
        if (source.height_px, source.width_px) != (self._height_px, self._width_px):
            raise InputError(
                f"source is {source.width_px}×{source.height_px} px, but the resize was planned for "
                f"{self._width_px}×{self._height_px} px; plan each size on its own"
            )
        check_output(out, grid=self._grid)
        self._execution.spread(lambda band: self._encode_band(source, band, out[: self._grid.n_tokens]), self._bands)

    def _encode_band(self, source: RowSource, band: range, out: NDArray[Any]) -> None:
        try:
            worker = self._idle.pop()  # each owns scratch memory: one per thread
        except IndexError:
            worker = self._new_worker()
        worker.encode(source, out, strips=band, divide=self._rescale == "divide")
        self._idle.append(worker)

    def _new_worker(self) -> "AcceleratedEncoder | _NumpyEncoder":
        if self._kernel is None:
            return _NumpyEncoder(height_px=self._height_px, width_px=self._width_px, grid=self._grid)
        return AcceleratedEncoder(
            height_px=self._height_px, width_px=self._width_px, grid=self._grid, resize=self._kernel
        )


class _NumpyEncoder:
    """Encodes bands by way of `StripResizer`."""

    def __init__(self, *, height_px: int, width_px: int, grid: PatchGrid) -> None:
        self._resizer = StripResizer(height_px=height_px, width_px=width_px, grid=grid)
        self._grid = grid
        self.n_strips = self._resizer.n_strips

    def encode(self, source: RowSource, out: NDArray[Any], *, strips: range, divide: bool) -> None:
        patches = _as_rows(out, self._grid)
        for strip in self._resizer.strips(source, chosen=slice(strips.start, strips.stop)):
            first = strip.first_row // MERGED_PATCH_PX
            rows = patches[first : first + len(strip.levels) // MERGED_PATCH_PX]
            _rescale(strip.levels, "divide" if divide else "multiply", out=rows)


def merge_patches(rgb: NDArray[np.uint8], *, rescale: Rescale = "multiply") -> NDArray[np.float32]:
    """Rescale and cut an already resized image, the plain way.

    Args:
        rgb: uint8 `(height, width, 3)`, both sides multiples of 48, such as `resize_rgb` returns.
        rescale: see `Rescale`.

    Returns:
        Float32 `(patches, 6912)`, equal to what `encode_image` writes.

    Raises:
        InputError: another shape or dtype.
    """
    height, width = ArrayRows(rgb).height_px, ArrayRows(rgb).width_px
    if not height or not width or height % MERGED_PATCH_PX or width % MERGED_PATCH_PX:
        raise InputError(f"image is {width}×{height} px; both sides must be multiples of 48; resize it first")
    grid = PatchGrid(rows=height // MERGED_PATCH_PX, columns=width // MERGED_PATCH_PX)
    out = np.empty((grid.n_tokens, PATCH_VALUES), np.float32)
    _rescale(rgb.reshape(height, -1), rescale, out=_as_rows(out, grid))
    return out


def check_output(out: NDArray[Any], *, grid: PatchGrid) -> None:
    """Check that the patches of one image can be written into the first rows of `out`.

    Raises:
        InputError: they cannot.
    """
    fits = out.ndim == 2 and out.shape[0] >= grid.n_tokens and out.shape[1] == PATCH_VALUES
    if not fits or out.dtype.name not in FLOAT_DTYPES or not out.flags.c_contiguous or not out.flags.writeable:
        raise InputError(
            f"output is {out.dtype} {out.shape}; it must be writeable, C-contiguous {', '.join(FLOAT_DTYPES)}, with "
            f"at least {grid.n_tokens} rows of {PATCH_VALUES} values; allocate it with np.zeros"
        )


def _even_ranges(n: int, *, at_most: int) -> list[range]:
    """Cut `range(n)` into at most so many ranges of nearly equal length."""
    n_ranges = min(at_most, n)
    return [range(n * i // n_ranges, n * (i + 1) // n_ranges) for i in range(n_ranges)]


def _as_rows(patches: NDArray[Any], grid: PatchGrid) -> NDArray[Any]:
    """View patches as the image that they hold: `(grid.rows, 48, grid.columns, 144)`."""
    return patches.reshape(grid.rows, grid.columns, MERGED_PATCH_PX, _PATCH_ROW).transpose(0, 2, 1, 3)


def _rescale(levels: NDArray[np.generic], rescale: Rescale, *, out: NDArray[Any]) -> None:
    """Write rows of levels 0…255 into rows of patches as 0…1, computed in float32."""
    levels = levels.reshape(out.shape)
    if out.dtype != np.float32:
        rounded = np.empty(out.shape, np.float32)
        _rescale(levels, rescale, out=rounded)
        out[...] = rounded
    elif rescale == "multiply":
        np.multiply(levels, _RESCALE_FACTOR, out=out)
    else:
        np.divide(levels, _RESCALE_DIVISOR, out=out)
