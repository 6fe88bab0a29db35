"""Matrix products in float32 whose rounded results equal integer arithmetic, bit for bit.

Pixels are centred (x - 128) and weights scaled by 2^-precision, which loses nothing. The product of a pixel and a
weight then fits into float32's 24 bits, and only their sum can round:

* if `128·Σ|weight| ≤ 2^24` (every precision up to 16) it does not, whatever the order of the additions;
* otherwise it is off by less than `error_bound`. Results nearer than that to a step of the rounding are summed again in
  integers; where they are many (a checkerboard), the strip is multiplied again in float64, which is always exact.
"""

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.bands import Band
from gemma4_mm.errors import InvariantError

CENTRE: Final = 128  # subtracted from every pixel, so that sums stay small
_FLOAT32_INTEGERS: Final = 1 << 24  # float32 holds every integer up to here
_RECOMPUTE_SHARE: Final = 32  # integers for at most one result in so many; beyond that float64 is faster


class ExactResize:
    """Resizes strips along one axis with a `Band`. Immutable.

    Attributes:
        band: outputs, inputs and matrices.
        error_bound: see the function of this name.
    """

    def __init__(self, band: Band, *, centred: bool) -> None:
        """Results are levels 0…255, or -128…127 if `centred`, ready to be the pixels of the next axis."""
        self.band = band
        self.error_bound = error_bound(band.taps, precision=band.precision)
        self._low = -CENTRE if centred else 0
        # What the centre contributed to each sum, and half a level, with which floor rounds.
        bias = CENTRE * band.taps.sum(axis=1) / (1 << band.precision) + 0.5 + self._low
        self._bias = band.spread(bias)
        self._raised_bias = band.spread(bias + self.error_bound).astype(np.float32)

    def resize(self, pixels: NDArray[np.float32], *, out: NDArray[np.float32], workspace: NDArray[np.float32]) -> None:
        """Resize one strip.

        Args:
            pixels: C-contiguous, integers -128…127, in the shape that `band` takes.
            out: filled with integers, in the shape that `band` gives.
            workspace: 1-D scratch of at least `workspace_size` values.
        """
        if exact_dtype() is np.float32:
            doubtful = self._resize_single(pixels, out, workspace)
            if doubtful.size * _RECOMPUTE_SHARE <= out.size:
                self._sum_again(doubtful, pixels, out)
                return
        self._resize_double(pixels, out)

    def workspace_size(self, n_rows: int, n_columns: int) -> int:
        """Values of scratch for results of `n_rows` × `n_columns`."""
        rows, columns = self.band.padded_shape((n_rows, n_columns))
        return rows * columns

    def _resize_single(
        self, pixels: NDArray[np.float32], out: NDArray[np.float32], workspace: NDArray[np.float32]
    ) -> NDArray[np.intp]:
        """Fill `out`, and return the flat indices of the results that may be one level too high."""
        shape = self.band.padded_shape(out.shape)
        sums = workspace[: shape[0] * shape[1]].reshape(shape)
        self.band.multiply(pixels, self.band.matrices, out=sums)
        sums = sums[: out.shape[0], : out.shape[1]]
        # Raised by the bound, a sum is never too low: only one just above a level is in doubt.
        sums += self._raised_bias
        # Half a level inside both ends: floor gives the same, and a clipped result is never in doubt.
        np.clip(sums, self._low + 0.5, self._low + 255.5, out=sums)
        np.floor(sums, out=out)
        if not self.error_bound:
            return np.empty(0, np.intp)
        sums -= out
        return np.flatnonzero(sums <= 2 * self.error_bound)

    def _resize_double(self, pixels: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Fill `out` by way of float64; slower, and exact at every precision."""
        sums = np.empty(self.band.padded_shape(out.shape))
        self.band.multiply(pixels.astype(np.float64), self.band.matrices.astype(np.float64), out=sums)
        levels = np.floor(sums[: out.shape[0], : out.shape[1]] + self._bias)
        out[...] = np.clip(levels, self._low, self._low + 255)

    def _sum_again(self, doubtful: NDArray[np.intp], pixels: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Sum single results again, in integers."""
        if not doubtful.size:
            return
        rows, columns = np.divmod(doubtful, out.shape[1])
        places = self.band.locate(rows=rows, columns=columns, width=pixels.shape[1])
        taps = self.band.taps[places.outputs]
        addresses = places.addresses[:, None] + places.step * np.arange(taps.shape[1])
        # An address past the end meets a zero tap.
        values = pixels.reshape(-1).take(addresses, mode="clip").astype(np.int64) + CENTRE
        half = (1 << self.band.precision) >> 1
        levels = ((values * taps).sum(axis=1) + half) >> self.band.precision
        out[rows, columns] = np.clip(levels, 0, 255) + self._low


def error_bound(taps: NDArray[np.int64], *, precision: int) -> float:
    """Bound on how far a float32 sum of centred pixels, plus its bias, may be from the truth, in levels.

    Products of an 8-bit pixel and a 16-bit weight are exact, and so is adding the zeros of a matrix. Each of the other
    additions, in any order, is off by at most 2^-24 of the sum of all magnitudes; rounding the bias and adding it by
    2^-17 each, half the spacing of float32 below 256.

    Returns:
        The bound; 0.0 where float32 is exact.
    """
    magnitude = CENTRE * int(np.abs(taps).sum(axis=1).max())
    if magnitude <= _FLOAT32_INTEGERS:
        return 0.0
    additions: float = taps.shape[1] * 2.0**-24 * magnitude / (1 << precision)
    return 1.01 * (additions + 2.0**-16)


@cache
def exact_dtype() -> type[np.float32 | np.float64]:
    """The narrower float type in which this process multiplies matrices as IEEE 754 says.

    Some BLAS builds and modes multiply float32 with fewer bits (TF32, bfloat16); products with a known answer, in the
    shapes that the resize uses, tell.

    Raises:
        InvariantError: not even float64 products are exact.
    """
    generator = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        if all(_knows_answer(generator, shape, dtype) for shape in ((64, 120, 15), (4, 40, 160))):
            return dtype
    raise InvariantError("this numpy's matmul is inexact even in float64; install a numpy wheel from PyPI")


def _knows_answer(generator: np.random.Generator, shape: tuple[int, int, int], dtype: type[Any]) -> bool:
    """Whether one product comes out as in integers. Columns have few nonzero weights, so that sums stay below 2^24."""
    m, k, n = shape
    pixels = generator.integers(-CENTRE, CENTRE, (m, k))
    weights = generator.integers(-(1 << 15), 1 << 15, (k, n))
    weights[np.argsort(generator.random((k, n)), axis=0) >= 4] = 0
    product = np.matmul(pixels.astype(dtype), weights.astype(dtype))
    return np.array_equal(product, np.einsum("mk,kn->mn", pixels, weights))
