"""The resize by the compiled integer kernel: its plan, and the rows that it is fed with.

`kernels.compiled` needs weights in pairs, since it multiplies two pixels at once: an output that begins at an odd pixel
begins one pixel earlier with a zero weight. An axis whose length stays has the weight 1. What a zero weight meets is of
no interest, so that scratch memory is never cleared.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.resize import ArrayRows, RowSource
from gemma4_mm.core.vision.weights import AxisWeights, axis_weights
from gemma4_mm.errors import InvariantError
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.spec import MERGED_PATCH_PX

GROUP_ROWS: Final = 16  # rows that are resized together; a strip is a multiple of it
_PAIR_LANES: Final = GROUP_ROWS * 4  # 32-bit lanes of one pair of columns: R, G, B, 0 of every row
_BLOCK_PX: Final = 240  # pixels of a row in flight: 30 KB of packed pairs, for the first-level cache
_BLOCK_OUTPUTS: Final = 8  # and at least so many outputs, lest windows mostly overlap
_READ_BYTES: Final = 1 << 20  # of a strip: enough to amortise a call, few enough for the second-level cache
_CACHED_WIDTH_PX: Final = 8192  # plans of wider images are not kept
_SUMS: Final = 1 << 31  # sums are int32
_UNIT_PRECISION: Final = 14
_LANES: Final = 16


@runtime_checkable
class StridedRows(Protocol):
    """A source that can spare a copy where any strides will do."""

    def strided_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return what `rows` returns, of any strides."""
        ...


@dataclass(frozen=True, kw_only=True)
class PairWeights:
    """`AxisWeights` of pairs of pixels.

    Attributes:
        starts: intp `(n_out,)`, first pair of each output; pair i holds the pixels 2i and 2i + 1.
        counts: intp `(n_out,)`, pairs that each output reads.
        weights: int32 `(n_out, k)`, two int16 each: the even pixel's in the low half.
        precision: int32, bits after the binary point.
    """

    starts: NDArray[np.intp]
    counts: NDArray[np.intp]
    weights: NDArray[np.int32]
    precision: np.int32

    @property
    def stops(self) -> NDArray[np.intp]:
        """One past the last pair of each output."""
        return self.starts + self.counts

    def as_tuple(self) -> tuple[Any, ...]:
        """As `compiled` takes it."""
        return self.starts, self.counts, self.weights, self.precision


def pair_weights(n_in: int, n_out: int) -> PairWeights:
    """Weights of one axis in pairs.

    Raises:
        InvariantError: a sum could leave int32, or a weight int16. No axis is known for which one does.
    """
    weights = axis_weights(n_in, n_out) if n_in != n_out else _unit_weights(n_in)
    check_range(weights.taps, precision=weights.precision)
    starts = weights.starts // 2
    counts = (weights.starts + weights.sizes + 1) // 2 - starts
    taps = np.zeros((n_out, 2 * int(counts.max()) + 1), np.int64)
    places = (weights.starts % 2)[:, None] + np.arange(weights.taps.shape[1])
    used = np.arange(weights.taps.shape[1]) < weights.sizes[:, None]
    taps[np.nonzero(used)[0], places[used]] = weights.taps[used]
    low, high = taps[:, :-1:2] & 0xFFFF, taps[:, 1::2] & 0xFFFF
    joined = np.ascontiguousarray(low | high << 16).astype(np.uint32).view(np.int32)
    return PairWeights(
        starts=starts.astype(np.intp),
        counts=counts.astype(np.intp),
        weights=joined,
        precision=np.int32(weights.precision),
    )


def check_range(taps: NDArray[np.int64], *, precision: int) -> None:
    """Check that weights fit int16 and that no sum of the kernel, in any order, leaves int32.

    A sum is half a level plus products of a pixel 0…255 and a weight, so that its magnitude is at most
    `255·Σ|weight| + 2^(precision-1)`. With torch's weights that is below 2^23 for precision 14 and grows with it to
    about 2^30.4 at precision 22, the largest: the magnitudes of a normalised cubic add up to less than 1.3.

    Raises:
        InvariantError: they do not.
    """
    largest = 255 * int(np.abs(taps).sum(axis=1).max()) + (1 << precision >> 1)
    if largest >= _SUMS or int(np.abs(taps).max()) >= 1 << 15:
        raise InvariantError(
            f"weights of precision {precision} could sum to {largest}; the compiled kernel adds in 32 bits; use "
            "Execution(kernel='numpy') and report this image's size"
        )


class AcceleratedEncoder:
    """Encodes bands of sources of one size; owns its scratch memory: one per thread."""

    def __init__(self, *, height_px: int, width_px: int, grid: PatchGrid, resize: Any) -> None:
        """Plan for `compiled.resize_strip` as `resize`; the caller has checked the sizes."""
        self._resize = resize
        plan = _recent_plan if width_px <= _CACHED_WIDTH_PX else _plan
        self._plan = plan(height_px, width_px, grid)
        self._grid = grid
        self.n_strips = grid.rows
        self._strip_rows = max(_READ_BYTES // (width_px * 3) // GROUP_ROWS, 1) * GROUP_ROWS
        self._packed = _aligned(self._plan.packed_lanes)
        self._ring = _aligned(self._plan.ring_pairs * self._plan.ring_lanes).reshape(self._plan.ring_pairs, -1)

    def encode(self, source: RowSource, out: NDArray[Any], *, strips: range, divide: bool) -> None:
        """Resize, rescale and cut some rows of patches.

        Args:
            source: of the planned size.
            out: C-contiguous `(grid.n_tokens, 6912)` of float32, float16 or bfloat16.
            strips: rows of the grid.
            divide: by 255, or multiply by 1/255.
        """
        plan = self._plan
        outputs = range(strips.start * MERGED_PATCH_PX, strips.stop * MERGED_PATCH_PX)
        span = slice(outputs.start, outputs.stop)
        # Groups are counted from the top of the image, so that a band begins in the middle of one.
        first = int(plan.down.starts[outputs.start]) * 2 // GROUP_ROWS * GROUP_ROWS
        last = min(int(plan.down.stops[span].max()) * 2, source.height_px)
        steps = (plan.blocks, plan.across.as_tuple(), plan.down.as_tuple())
        scaling = _scaling(out.dtype, divide=divide)
        output = outputs.start
        for start, pixels in self._strips(source, range(first, last)):
            output = self._resize(
                (pixels.ctypes.data, start, *pixels.shape[:2], *pixels.strides[:2]),
                output,
                outputs.stop,
                steps,
                self._packed,
                self._ring,
                self._grid.columns,
                out.ctypes.data,
                scaling,
            )
        if output != outputs.stop:
            raise InvariantError(f"the compiled kernel stopped at row {output} of {outputs.stop}; please report this")

    def _strips(self, source: RowSource, rows: range) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """First row and pixels of each strip, three or four bytes a pixel."""
        if isinstance(source, ArrayRows) and _is_packed(view := source.rows(rows.start, rows.stop)):
            yield rows.start, view  # in memory as it is: one call, and all the while other threads need not wait
            return
        read = source.strided_rows if isinstance(source, StridedRows) else source.rows
        for start in range(rows.start, rows.stop, self._strip_rows):
            pixels = read(start, min(start + self._strip_rows, rows.stop))
            yield start, pixels if _is_packed(pixels) else np.ascontiguousarray(pixels)


def _is_packed(pixels: NDArray[np.uint8]) -> bool:
    """Whether R, G and B of a pixel lie together, and pixels three or four bytes apart."""
    return pixels.strides[2] == 1 and pixels.strides[1] in (3, 4)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """All that depends on the sizes alone.

    `blocks` is intp `(n, 4)`: first output, one past the last, first pair and number of pairs of each block of a row.
    """

    across: PairWeights
    down: PairWeights
    blocks: NDArray[np.intp]
    packed_lanes: int
    ring_pairs: int
    ring_lanes: int


def _plan(height_px: int, width_px: int, grid: PatchGrid) -> _Plan:
    across, down = pair_weights(width_px, grid.width_px), pair_weights(height_px, grid.height_px)
    blocks = np.array(list(_blocks(across)), np.intp)
    # While one group of rows is added, all pairs that an output reads must still be there.
    ring_groups = -(-int(down.counts.max()) * 2 // GROUP_ROWS) + 1
    return _Plan(
        across=across,
        down=down,
        blocks=blocks,
        packed_lanes=int(blocks[:, 3].max()) * _PAIR_LANES,
        ring_pairs=ring_groups * GROUP_ROWS // 2,
        ring_lanes=-(-(grid.width_px * 3 + 1) // _LANES) * _LANES,  # pixels are stored four lanes wide
    )


_recent_plan = lru_cache(maxsize=16)(_plan)


def _blocks(across: PairWeights) -> Iterator[tuple[int, int, int, int]]:
    """Cut a row of outputs into blocks that read about `_BLOCK_PX` pixels each."""
    starts, stops = across.starts.tolist(), across.stops.tolist()
    first = 0
    for output in range(1, len(starts) + 1):
        full = output < len(starts) and (stops[output] - starts[first]) * 2 > _BLOCK_PX
        if output == len(starts) or (full and output - first >= _BLOCK_OUTPUTS):
            yield first, output, starts[first], max(stops[first:output]) - starts[first]
            first = output


def _unit_weights(n: int) -> AxisWeights:
    """Every output its own input: `(2^14·x + 2^13) >> 14` is x."""
    return AxisWeights(
        n_in=n,
        n_out=n,
        starts=np.arange(n),
        sizes=np.ones(n, np.int64),
        taps=np.full((n, 1), 1 << _UNIT_PRECISION),
        precision=_UNIT_PRECISION,
    )


def _aligned(n_lanes: int) -> NDArray[np.int32]:
    """Uninitialised int32 memory that begins where a cache line does: vectors are stored aligned."""
    memory = np.empty(n_lanes + _LANES, np.int32)
    start = -(memory.ctypes.data // memory.itemsize) % _LANES
    return memory[start : start + n_lanes]


def _scaling(dtype: np.dtype[Any], *, divide: bool) -> tuple[np.float32, np.int32, np.int32, np.int32]:
    """Factor, whether to divide by it, and how a float32 becomes 16 bits.

    That is by how much its exponent's bias differs, shifted into place, and how many bits of its fraction are lost; 0
    of them: it stays float32.
    """
    bias, lost = {"float32": (0, 0), "float16": ((127 - 15) << 23, 23 - 10), "bfloat16": (0, 23 - 7)}[dtype.name]
    return np.float32(255 if divide else 1 / 255), np.int32(divide), np.int32(bias), np.int32(lost)
