"""Which kernel resizes: the choice of `Execution.kernel`, and the check of what numba compiled here."""

import importlib.util
import sys
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.kernels.accelerated import AcceleratedEncoder
from gemma4_mm.core.vision.resize import ArrayRows
from gemma4_mm.core.vision.weights import axis_weights
from gemma4_mm.errors import InvariantError, MissingDependencyError
from gemma4_mm.execution import Kernel
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.optional import require
from gemma4_mm.spec import MERGED_PATCH_PX, PATCH_VALUES

# Pixels that numpy resizes in the time that it takes to import numba and to load the kernel from numba's cache: 0.65 s
# at 2.5 ns per pixel of the source, and as much for every soft token as for 4400 pixels. Measured on a 2.6 GHz AMD
# EPYC (Zen 5) with numba 0.68; the second figure is for a process in which something else has imported numba.
_LOADING_PX: Final = 260_000_000
_LOADING_PX_IMPORTED: Final = 150_000_000
_TOKEN_PX: Final = 4_400

_CHECK_GRID: Final = PatchGrid(rows=1, columns=2)
_CHECK_SHAPES: Final = ((61, 173, 3), (39, 75, 3))  # shrunk and stretched, of odd length, so that pairs are cut


class _Auto:
    """What this process has resized under `auto`.

    Nobody knows how much is still to come. So numpy works until it has taken as long as loading numba would have; then
    that is done: in hindsight never more than twice the best choice.
    """

    def __init__(self) -> None:
        self.resized_px = 0
        self.refused = importlib.util.find_spec("numba") is None

    def choose(self, n_px: int) -> Any | None:
        """The kernel, or None for numpy."""
        if self.refused:
            return None
        if not is_loaded():
            self.resized_px += n_px
            if self.resized_px < (_LOADING_PX_IMPORTED if "numba" in sys.modules else _LOADING_PX):
                return None
        try:
            return load_kernel()
        except (MissingDependencyError, InvariantError):
            self.refused = True
            return None


@cache
def _auto() -> _Auto:
    return _Auto()


def choose_kernel(kernel: Kernel, *, grid: PatchGrid, height_px: int, width_px: int, n_sources: int = 1) -> Any | None:
    """Return `compiled.resize_strip`, or None for numpy.

    `auto` means numba once this process has it, and before that as soon as numpy has worked for as long as loading it
    takes; numpy where numba is not installed or fails its check.

    Args:
        kernel: the caller's choice.
        grid: of one result.
        height_px: height of a source.
        width_px: width of a source.
        n_sources: so many of them.

    Raises:
        MissingDependencyError: `numba` was asked for, and is not installed or cannot run here.
        InvariantError: `numba` was asked for, and computes something else here.
    """
    if kernel == "numpy":
        return None
    if kernel == "numba":
        return load_kernel()
    return _auto().choose(n_sources * (height_px * width_px + grid.n_tokens * _TOKEN_PX))


def is_loaded() -> bool:
    """Whether this process has the compiled kernel."""
    return bool(load_kernel.cache_info().currsize)


@cache
def load_kernel() -> Any:
    """Import numba, load the kernel from numba's cache or compile it, and check it on two small images.

    Raises:
        MissingDependencyError: numba is not installed, or cannot run here.
        InvariantError: what it compiled gives other results than integers in numpy.
    """
    require("numba", extra="fast")
    try:
        resize = require("gemma4_mm.core.vision.kernels.compiled").resize_strip
    except MissingDependencyError:
        raise
    except ImportError as error:
        raise MissingDependencyError(
            f"numba cannot run here ({error}); install one that fits this numpy with: pip install -U 'gemma4-mm[fast]',"
            " or use Execution(kernel='numpy')",
            name="numba",
        ) from error
    check_kernel(resize)
    return resize


def check_kernel(resize: Any) -> None:
    """Compare a kernel with integers in numpy: noise at both ends of the range, where every clip and rounding shows.

    Raises:
        InvariantError: one bit differs.
    """
    generator = np.random.default_rng(0)
    for shape in _CHECK_SHAPES:
        rgb = (generator.integers(0, 2, shape) * 255 ^ generator.integers(0, 8, shape)).astype(np.uint8)
        encoder = AcceleratedEncoder(height_px=shape[0], width_px=shape[1], grid=_CHECK_GRID, resize=resize)
        out = np.zeros((_CHECK_GRID.n_tokens, PATCH_VALUES), np.float32)
        encoder.encode(ArrayRows(rgb), out, strips=range(_CHECK_GRID.rows), divide=True)
        across = _resize_axis(rgb.transpose(1, 0, 2), _CHECK_GRID.width_px).transpose(1, 0, 2)
        levels = _resize_axis(across, _CHECK_GRID.height_px).reshape(MERGED_PATCH_PX, _CHECK_GRID.columns, -1)
        truth = levels.transpose(1, 0, 2).reshape(out.shape).astype(np.float32) / np.float32(255)
        if not np.array_equal(out, truth):
            raise InvariantError(
                "the resize that numba compiled here is not exact; use Execution(kernel='numpy'), and report this "
                "processor and the versions of numba and llvmlite"
            )


def _resize_axis(levels: NDArray[Any], n_out: int) -> NDArray[np.int64]:
    """Resize the first axis in integers."""
    weights = axis_weights(len(levels), n_out)
    out = np.empty((n_out, *levels.shape[1:]), np.int64)
    for output, (start, size, taps) in enumerate(zip(weights.starts, weights.sizes, weights.taps, strict=True)):
        out[output] = np.tensordot(taps[:size], levels[start : start + size].astype(np.int64), 1)
    np.clip((out + (1 << weights.precision - 1)) >> weights.precision, 0, 255, out=out)
    return out
