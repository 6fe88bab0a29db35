"""The resize of images and video frames, strip by strip: torch's uint8 antialiased bicubic, in every bit.

Rows first, then columns, with whole levels 0…255 between the two, as torch keeps uint8 there. An axis whose length
stays is left alone. Only a strip of the source is held in memory at a time, and none of it as a full float image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.bands import HorizontalBand, VerticalBand
from gemma4_mm.core.vision.exact import CENTRE, ExactResize
from gemma4_mm.core.vision.weights import axis_weights
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.spec import MERGED_PATCH_PX

_STRIP_ROWS: Final = 96  # rows in flight: enough to amortise a numpy call, few enough for the cache
_STRIP_BYTES: Final = 12 << 20  # and never more than this of a very wide image
_READ_BYTES: Final = 96 << 10  # per read: below malloc's threshold for mapping (and faulting in) fresh memory
_VIEW_BYTES: Final = 384 << 10  # of a view, which needs no memory: fewer calls for threads to wait for one another at
_CACHED_WIDTH_PX: Final = 8192  # plans of wider images are not kept


class RowSource(Protocol):
    """Decoded RGB pixels that are read strip by strip, from top to bottom."""

    @property
    def height_px(self) -> int:
        """Rows of the image."""
        ...

    @property
    def width_px(self) -> int:
        """Pixels of a row."""
        ...

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return uint8 `(stop - start, width_px, 3)`, which is only read; threads may call it at once."""
        ...


class ArrayRows:
    """A uint8 `(height, width, 3)` array, of any strides, as a `RowSource`.

    Raises:
        InputError: another shape or dtype.
    """

    def __init__(self, rgb: NDArray[np.uint8]) -> None:
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise InputError(
                f"an image array is {rgb.dtype} {rgb.shape}; it must be uint8 (height, width, 3); convert it to RGB"
            )
        self._rgb = rgb

    @property
    def height_px(self) -> int:
        """Rows of the image."""
        return int(self._rgb.shape[0])

    @property
    def width_px(self) -> int:
        """Pixels of a row."""
        return int(self._rgb.shape[1])

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return a view of some rows."""
        return self._rgb[start:stop]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Some rows of the resized image.

    Attributes:
        first_row: the first, a multiple of 48.
        levels: float32 `(rows, width_px·3)`, whole numbers 0…255, interleaved RGB; `rows` is a multiple of 48. Valid
            until the next strip.
    """

    first_row: int
    levels: NDArray[np.float32]


def resize_rgb(source: RowSource, *, grid: PatchGrid) -> NDArray[np.uint8]:
    """Resize to uint8 `(grid.height_px, grid.width_px, 3)`: what HF has before it rescales and cuts into patches."""
    out = np.empty((grid.height_px, grid.width_px * 3), np.uint8)
    for strip in StripResizer(height_px=source.height_px, width_px=source.width_px, grid=grid).strips(source):
        out[strip.first_row : strip.first_row + len(strip.levels)] = strip.levels
    return out.reshape(grid.height_px, grid.width_px, 3)


class StripResizer:
    """Resizes any number of sources of one size to one grid. Owns its scratch memory: one per thread.

    Raises:
        InputError: an empty source.
    """

    def __init__(self, *, height_px: int, width_px: int, grid: PatchGrid) -> None:
        if height_px < 1 or width_px < 1:
            raise InputError(f"image is {width_px}×{height_px} px; each side must be at least 1 px; check the source")
        self._height_px, self._width_px = height_px, width_px
        plan = _recent_plan if width_px <= _CACHED_WIDTH_PX else _plan
        self._plan = plan(height_px, width_px, grid)
        self._pixels = np.empty((self._plan.chunk_rows, width_px * 3), np.float32)
        self._bytes = np.empty((max(_VIEW_BYTES // (width_px * 3), 1), width_px, 3), np.uint8)
        self._window = np.empty((max(map(len, self._plan.inputs)), grid.width_px * 3), np.float32)
        self._levels = np.empty((len(self._plan.outputs[0]), grid.width_px * 3), np.float32)
        self._workspace = np.empty(self._plan.workspace_size, np.float32)

    @property
    def n_strips(self) -> int:
        """Strips of the whole image."""
        return len(self._plan.outputs)

    def strips(self, source: RowSource, *, chosen: slice = slice(None)) -> Iterator[Strip]:
        """Resize `source`, or the `chosen` ones of its `n_strips` consecutive strips, from top to bottom.

        Raises:
            InputError: the source has another size.
        """
        if (source.height_px, source.width_px) != (self._height_px, self._width_px):
            raise InputError(
                f"source is {source.width_px}×{source.height_px} px, but the resize was planned for "
                f"{self._width_px}×{self._height_px} px; plan each size on its own"
            )
        held = range(0)  # rows of the source in the window, already resized along the row
        plan = self._plan
        steps = list(zip(plan.outputs, plan.inputs, plan.vertical, strict=True))
        for outputs, inputs, vertical in steps[chosen]:
            kept = max(held.stop - inputs.start, 0)
            self._window[:kept] = self._window[len(held) - kept : len(held)]
            self._resize_rows(source, range(inputs.start + kept, inputs.stop), out=self._window[kept : len(inputs)])
            held = inputs
            window, levels = self._window[: len(inputs)], self._levels[: len(outputs)]
            if vertical:
                vertical.resize(window, out=levels, workspace=self._workspace)
            else:
                np.add(window, np.float32(CENTRE), out=levels)
            yield Strip(first_row=outputs.start, levels=levels)

    def _resize_rows(self, source: RowSource, rows: range, *, out: NDArray[np.float32]) -> None:
        """Read rows of the source, centre them, and resize them along the row."""
        horizontal = self._plan.horizontal
        if horizontal is None:
            self._load(source, rows, out=out)
            return
        for chunk in _even_chunks(rows, at_most=len(self._pixels)):
            pixels = self._pixels[: len(chunk)]
            self._load(source, chunk, out=pixels)
            results = out[chunk.start - rows.start : chunk.stop - rows.start]
            horizontal.resize(pixels, out=results, workspace=self._workspace)

    def _load(self, source: RowSource, rows: range, *, out: NDArray[np.float32]) -> None:
        """Read rows of the source as centred float32."""
        n_bytes = _VIEW_BYTES if isinstance(source, ArrayRows) else _READ_BYTES
        step = max(n_bytes // (self._width_px * 3), 1)
        for start in range(rows.start, rows.stop, step):
            stop = min(start + step, rows.stop)
            centred = self._bytes[: stop - start]
            # Flipping the top bit of a uint8 and reading it as int8 subtracts 128.
            np.bitwise_xor(source.rows(start, stop), np.uint8(CENTRE), out=centred)
            out[start - rows.start : stop - rows.start] = centred.view(np.int8).reshape(stop - start, -1)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """All that depends on the sizes alone, strip by strip; None stands for an axis whose length stays."""

    outputs: tuple[range, ...]
    inputs: tuple[range, ...]
    horizontal: ExactResize | None
    vertical: tuple[ExactResize | None, ...]
    chunk_rows: int
    workspace_size: int


def _plan(height_px: int, width_px: int, grid: PatchGrid) -> _Plan:
    horizontal: ExactResize | None = None
    vertical: list[ExactResize] = []
    sizes = [0]
    chunk_rows = max(min(_STRIP_ROWS, _STRIP_BYTES // (width_px * 12)), 1)
    if width_px != grid.width_px:
        band = HorizontalBand(axis_weights(width_px, grid.width_px), range(grid.width_px))
        horizontal = ExactResize(band, centred=True)
        chunk_rows = min(chunk_rows, band.max_rows)
        sizes.append(horizontal.workspace_size(chunk_rows, grid.width_px * 3))
    outputs = _strip_ranges(height_px, grid)
    if height_px != grid.height_px:
        weights = axis_weights(height_px, grid.height_px)
        vertical = [ExactResize(VerticalBand(weights, strip), centred=False) for strip in outputs]
        sizes += [step.workspace_size(len(step.band.outputs), grid.width_px * 3) for step in vertical]
    return _Plan(
        outputs=outputs,
        inputs=tuple(step.band.inputs for step in vertical) or outputs,
        horizontal=horizontal,
        vertical=tuple(vertical) or (None,) * len(outputs),
        chunk_rows=chunk_rows,
        workspace_size=max(sizes),
    )


_recent_plan = lru_cache(maxsize=8)(_plan)  # images of one size come in rows; a plan takes up to 3 MB


def _strip_ranges(height_px: int, grid: PatchGrid) -> tuple[range, ...]:
    """Cut the output into strips of whole patches that read about `_STRIP_ROWS` rows each."""
    patches = max(round(_STRIP_ROWS / height_px * grid.rows), 1)
    step = min(patches, grid.rows) * MERGED_PATCH_PX
    return tuple(range(first, min(first + step, grid.height_px)) for first in range(0, grid.height_px, step))


def _even_chunks(rows: range, *, at_most: int) -> Iterator[range]:
    """Cut `rows` into the fewest chunks of at most so many rows, of nearly equal length."""
    n_chunks = -(-len(rows) // at_most)
    for chunk in range(n_chunks):
        yield rows[len(rows) * chunk // n_chunks : len(rows) * (chunk + 1) // n_chunks]
