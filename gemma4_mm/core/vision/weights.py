"""Fixed-point weights of the antialiased bicubic resize, one axis at a time.

torch resizes uint8 images with integer weights: each output pixel is a rounded, shifted sum of a few input pixels.
The weights are a Keys cubic (a = -0.5), stretched when shrinking, normalised in float64 and scaled so that the largest
just fits into 16 bits. Source: torch 2.14 `aten/src/ATen/native/cpu/UpSampleKernel.cpp`, whose float64 operations are
repeated in the same order.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SUPPORT: Final = 2.0  # half the width of the cubic, in pixels of the coarser axis
_MAX_PRECISION: Final = 22  # torch's search for the shift ends here
_WEIGHT_LIMIT: Final = 1 << 15  # weights are int16


@dataclass(frozen=True, kw_only=True)
class AxisWeights:
    """How each output of one axis is made: `(Σ_j taps[i, j] · x[starts[i] + j] + 2^(precision-1)) >> precision`.

    Attributes:
        n_in: input pixels along the axis.
        n_out: output pixels along the axis.
        starts: int64 `(n_out,)`, first input pixel of each output; never decreases.
        sizes: int64 `(n_out,)`, input pixels that each output reads, at least 1.
        taps: int64 `(n_out, k)`, weights in units of 2^-precision, zero beyond `sizes`.
        precision: bits after the binary point.
    """

    n_in: int
    n_out: int
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    taps: NDArray[np.int64]
    precision: int


def axis_weights(n_in: int, n_out: int) -> AxisWeights:
    """Compute torch's weights for resizing one axis from `n_in` to `n_out` pixels; arrays are read-only."""
    scale = n_in / n_out
    support = _SUPPORT * max(scale, 1.0)
    inverse = 1.0 / scale if scale >= 1.0 else 1.0
    centres = scale * (np.arange(n_out) + 0.5)
    # astype truncates towards zero like C's cast, and the maximum hides that for the negative ones.
    starts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    stops = np.minimum((centres + support + 0.5).astype(np.int64), n_in)
    sizes = np.clip(stops - starts, 0, math.ceil(support) * 2 + 1)
    offsets = np.arange(int(sizes.max()))
    real = _cubic(np.abs((offsets + starts[:, None] - centres[:, None] + 0.5) * inverse))
    real[offsets >= sizes[:, None]] = 0.0
    # A running sum adds in torch's order; np.sum would add pairwise and differ in the last bit.
    real /= np.add.accumulate(real, axis=1)[:, -1:]
    precision = _precision(float(real.max()))
    taps = np.trunc(real * (1 << precision) + np.copysign(0.5, real)).astype(np.int64)
    for array in (starts, sizes, taps):
        array.flags.writeable = False
    return AxisWeights(n_in=n_in, n_out=n_out, starts=starts, sizes=sizes, taps=taps, precision=precision)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys cubic with a = -0.5 at distances `x` ≥ 0, in torch's polynomial form."""
    a = -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    return np.where(x < 1.0, near, np.where(x < _SUPPORT, far, 0.0))


def _precision(largest: float) -> int:
    """Return the shift with which the `largest` weight still fits into int16."""
    for precision in range(_MAX_PRECISION):
        if int(0.5 + largest * (1 << (precision + 1))) >= _WEIGHT_LIMIT:
            return precision
    return _MAX_PRECISION
