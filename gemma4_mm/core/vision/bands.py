"""One axis of the resize as a band of small matrices.

Neighbouring outputs of an axis read one short window of inputs:

    outputs 0 1   x x x . . . . . .
    outputs 2 3   . . x x x . . . .
    outputs 4 5   . . . . x x x . .

so the resize along an axis is a diagonal of small dense matrices. Where their windows lie at a regular step, numpy
multiplies a stack of overlapping windows in one call, without copying a pixel. Nothing here rounds: `core.exact` does.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.weights import AxisWeights

# M·N·K up to which every OpenBLAS kernel leaves a product on the calling thread: waking the pool costs more than this.
MAX_PRODUCT: Final = 1 << 18
_SLACK: Final = 2  # inputs by which windows may be widened to lie at a regular step


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where single outputs of a strip come from.

    Attributes:
        outputs: intp `(n,)`, index of each output within the band.
        addresses: intp `(n,)`, flat index of the first input in the strip's pixels.
        step: from one input to the next.
    """

    outputs: NDArray[np.intp]
    addresses: NDArray[np.intp]
    step: int


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Consecutive blocks whose windows, widened to one `length`, begin `step` inputs apart."""

    blocks: slice
    start: int
    length: int
    step: int

    @property
    def n_blocks(self) -> int:
        return int(self.blocks.stop - self.blocks.start)


class Band(ABC):
    """Consecutive outputs of one axis, and the inputs that they read. Immutable: strips, frames and threads share it.

    Attributes:
        outputs: the outputs, as a range of the axis.
        inputs: the inputs that they read, as a range of the axis.
        taps: int64 `(len(outputs), k)`, integer weights of each output; see `AxisWeights`.
        precision: bits after the binary point of `taps`.
        matrices: float32, the taps scaled by 2^-precision, as `multiply` takes them.
    """

    _block: int  # outputs of one matrix

    def __init__(self, weights: AxisWeights, outputs: range) -> None:
        span = slice(outputs.start, outputs.stop)
        first = int(weights.starts[outputs.start])
        starts = weights.starts[span] - first
        stops = starts + weights.sizes[span]
        self.outputs = outputs
        self.inputs = range(first, first + int(stops[-1]))
        self.taps = weights.taps[span]
        self.precision = weights.precision
        self._starts = starts
        lasts = np.minimum(np.arange(self._block, len(outputs) + self._block, self._block), len(outputs)) - 1
        step = round(self._block * weights.n_in / weights.n_out)
        self._runs = tuple(
            _cut_runs(starts[:: self._block].tolist(), stops[lasts].tolist(), step=step, n_in=len(self.inputs))
        )
        self.matrices = self._orient(self._dense())

    @property
    def longest_window(self) -> int:
        """Inputs of the longest window."""
        return max(run.length for run in self._runs)

    def _dense(self) -> NDArray[np.float32]:
        """Float32 `(blocks, inputs, outputs of a block)`, padded with zeros to the longest window."""
        windows = np.concatenate([run.start + run.step * np.arange(run.n_blocks) for run in self._runs])
        block, place = np.divmod(np.arange(len(self.outputs)), self._block)
        rows = (self._starts - windows[block])[:, None] + np.arange(self.taps.shape[1])
        # The last outputs have zero taps past the end of their window, hence the longer of the two.
        dense = np.zeros((windows.size, max(int(rows.max()) + 1, self.longest_window), self._block), np.float32)
        dense[block[:, None], rows, place[:, None]] = self.taps * 2.0**-self.precision
        return dense

    @abstractmethod
    def padded_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Shape of the sums for results of `shape`: whole blocks."""

    @abstractmethod
    def multiply(self, pixels: NDArray[Any], matrices: NDArray[Any], *, out: NDArray[Any]) -> None:
        """Write the weighted sums of C-contiguous `pixels` into C-contiguous `out`, all of one float dtype."""

    @abstractmethod
    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Repeat one value per output so that it broadcasts over a strip of results."""

    @abstractmethod
    def locate(self, *, rows: NDArray[np.intp], columns: NDArray[np.intp], width: int) -> Places:
        """Look up results of a strip whose pixels have `width` columns."""

    @abstractmethod
    def _orient(self, dense: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lay `_dense` out as `multiply` takes it."""


class HorizontalBand(Band):
    """Along rows of interleaved RGB: float `(rows, len(inputs)·3)` to `(rows, len(outputs)·3)`."""

    _block = 5  # × RGB = 15 of the 16 lanes of an AVX-512 register; twice the outputs would add zeros to multiply

    @property
    def max_rows(self) -> int:
        """Rows of pixels with which one product stays below `MAX_PRODUCT`; at least 8."""
        return max(MAX_PRODUCT // (self.longest_window * 3 * self._block * 3), 8)

    def padded_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Shape of the sums: the last block may reach past the last column."""
        return shape[0], self.matrices.shape[0] * self.matrices.shape[2]

    def multiply(self, pixels: NDArray[Any], matrices: NDArray[Any], *, out: NDArray[Any]) -> None:
        """Float `(rows, len(inputs)·3)` to `(rows, columns of whole blocks)`, one product per block."""
        row, value = pixels.strides
        blocks = out.reshape(out.shape[0], matrices.shape[0], matrices.shape[2]).transpose(1, 0, 2)
        for run in self._runs:
            windows: NDArray[Any] = np.ndarray(
                (run.n_blocks, pixels.shape[0], run.length * 3),
                pixels.dtype,
                pixels,
                offset=run.start * 3 * value,
                strides=(run.step * 3 * value, row, value),
            )
            np.matmul(windows, matrices[run.blocks, : run.length * 3], out=blocks[run.blocks])

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Once per channel, `(len(outputs)·3,)`."""
        return values.repeat(3)

    def locate(self, *, rows: NDArray[np.intp], columns: NDArray[np.intp], width: int) -> Places:
        """Look up results; a row of pixels has `width` values."""
        outputs, channels = np.divmod(columns, 3)
        return Places(outputs=outputs, addresses=rows * width + self._starts[outputs] * 3 + channels, step=3)

    def _orient(self, dense: NDArray[np.float32]) -> NDArray[np.float32]:
        blocks, inputs, outputs = dense.shape
        interleaved = np.zeros((blocks, inputs, 3, outputs, 3), np.float32)
        for channel in range(3):
            interleaved[:, :, channel, :, channel] = dense
        return interleaved.reshape(blocks, inputs * 3, outputs * 3)


class VerticalBand(Band):
    """Down the columns of a strip: float `(len(inputs), n)` to `(len(outputs), n)`."""

    _block = 4  # few outputs, few zeros to multiply: the long axis of the product is the row of pixels

    def padded_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Shape of the sums: the last block may reach past the last row."""
        return self.matrices.shape[0] * self._block, shape[1]

    def multiply(self, pixels: NDArray[Any], matrices: NDArray[Any], *, out: NDArray[Any]) -> None:
        """Float `(len(inputs), n)` to `(rows of whole blocks, n)`, one product per block and tile of columns."""
        row, value = pixels.strides
        width = pixels.shape[1]
        blocks = out.reshape(-1, self._block, width)
        for run in self._runs:
            tile = max(MAX_PRODUCT // (run.length * self._block), 16)
            for left in range(0, width, tile):
                windows: NDArray[Any] = np.ndarray(
                    (run.n_blocks, run.length, min(tile, width - left)),
                    pixels.dtype,
                    pixels,
                    offset=run.start * row + left * value,
                    strides=(run.step * row, row, value),
                )
                np.matmul(matrices[run.blocks, :, : run.length], windows, out=blocks[run.blocks, :, left : left + tile])

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """As a column, `(len(outputs), 1)`."""
        return values[:, None]

    def locate(self, *, rows: NDArray[np.intp], columns: NDArray[np.intp], width: int) -> Places:
        """Look up results; a row of pixels has `width` values."""
        return Places(outputs=rows, addresses=self._starts[rows] * width + columns, step=width)

    def _orient(self, dense: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(dense.transpose(0, 2, 1))


def _cut_runs(starts: list[int], stops: list[int], *, step: int, n_in: int) -> Iterator[_Run]:
    """Cut the windows of consecutive blocks into runs, each as long as `_SLACK` and the `n_in` inputs allow."""
    first, start, stop = 0, starts[0], stops[0]  # the run's common window, as seen from its first block
    longest = stop - start
    for block in range(1, len(starts)):
        shift = step * (block - first)
        wide_start, wide_stop = min(start, starts[block] - shift), max(stop, stops[block] - shift)
        longest = max(longest, stops[block] - starts[block])
        inside = wide_start >= 0 and wide_stop + shift <= n_in
        if inside and wide_stop - wide_start <= longest + _SLACK:
            start, stop = wide_start, wide_stop
            continue
        yield _Run(blocks=slice(first, block), start=start, length=stop - start, step=step)
        first, start, stop = block, starts[block], stops[block]
        longest = stop - start
    yield _Run(blocks=slice(first, len(starts)), start=start, length=stop - start, step=step)
