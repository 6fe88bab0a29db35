"""Media that are encoded already: where a cache has one, it stands in the place of its source."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.geometry import position_ids
from gemma4_mm.core.vision.patches import Rescale
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.layout import VideoPlan

_LEVELS: Final = np.float32(255)
_INVERSE: Final = np.float32(1 / 255)


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedImage:
    """An image's merged patches.

    Attributes:
        packed: `(grid.n_tokens, 6912)`, see `pack`.
        grid: of the patches.
    """

    packed: NDArray[Any]
    grid: PatchGrid

    def write(self, out: NDArray[Any]) -> None:
        """Write the float32 rows into `out`."""
        unpack(self.packed, out, rescale="multiply")


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedVideo:
    """A video's merged patches.

    Attributes:
        packed: `(frames, plan.grid.n_tokens, 6912)`, see `pack`.
        plan: which frames they are.
    """

    packed: NDArray[Any]
    plan: VideoPlan

    def __len__(self) -> int:
        """Frames."""
        return len(self.packed)

    def write(self, pixels: NDArray[Any], positions: NDArray[np.int64]) -> None:
        """Write all frames into `(frames, max_soft_tokens, …)` of a batch, as `VideoStream.write` does."""
        n_tokens = self.plan.grid.n_tokens
        unpack(self.packed, pixels[:, :n_tokens], rescale="divide")
        pixels[:, n_tokens:] = 0
        positions[:, :n_tokens] = position_ids(self.plan.grid)
        positions[:, n_tokens:] = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedAudio:
    """A decoded audio.

    Attributes:
        samples: float32 `(samples,)`, 16 kHz mono.
    """

    samples: NDArray[np.float32]

    @property
    def n_samples(self) -> int:
        """Its length."""
        return len(self.samples)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All samples, as the only block."""
        yield self.samples


def pack(values: NDArray[np.float32], *, rescale: Rescale) -> NDArray[Any]:
    """Rescaled levels as the bytes they were, a quarter of the space; values that are no levels stay float32."""
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
