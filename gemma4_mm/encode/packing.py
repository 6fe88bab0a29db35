"""Encoded patches as a cache keeps them: the levels that they were, a quarter of the space."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.patches import Rescale

_LEVELS: Final = np.float32(255)
_INVERSE: Final = np.float32(1 / 255)


def pack(values: NDArray[np.float32], *, rescale: Rescale) -> NDArray[Any]:
    """Rescaled levels as the bytes they were; values that are no levels stay float32."""
    levels = (values * _LEVELS + np.float32(0.5)).astype(np.uint8)
    again = np.empty_like(values)
    unpack(levels, again, rescale=rescale)
    return levels if np.array_equal(again, values) else values


def unpack(packed: NDArray[Any], out: NDArray[Any], *, rescale: Rescale) -> None:
    """What was packed, to the bit: the arithmetic of `core.vision.patches`, in float32."""
    if packed.dtype != np.uint8 or out.dtype != np.float32:
        out[...] = packed if packed.dtype != np.uint8 else _rescaled(packed, rescale)
    elif rescale == "multiply":
        np.multiply(packed, _INVERSE, out=out)
    else:
        np.divide(packed, _LEVELS, out=out)


def _rescaled(packed: NDArray[np.uint8], rescale: Rescale) -> NDArray[np.float32]:
    values = np.empty(packed.shape, np.float32)
    unpack(packed, values, rescale=rescale)
    return values
