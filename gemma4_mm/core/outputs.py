"""Where a call's media tensors go: their float dtype, and arrays of the caller's that they are written into."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.errors import InputError
from gemma4_mm.optional import require
from gemma4_mm.spec import FLOAT_DTYPES

MEDIA_TENSORS: Final = (
    "pixel_values",
    "image_position_ids",
    "pixel_values_videos",
    "video_position_ids",
    "num_frames_per_video",
    "input_features",
    "input_features_mask",
)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """How the media tensors of one call are stored.

    Attributes:
        dtype: of the float tensors: float32, or float16 or bfloat16, which hold the float32 values rounded to nearest,
            ties to even, as `tensor.to(torch.bfloat16)` rounds them.
        arrays: memory for tensors, by Hugging Face's names. A tensor is written into the first entries of its array and
            is a view of it; a tensor without an array gets memory of its own.
    """

    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def allocate(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> NDArray[Any]:
        """Return memory for one tensor, of any content.

        Args:
            name: Hugging Face's.
            shape: of the tensor, its items first.
            dtype: None for `self.dtype`.

        Raises:
            InputError: the caller's array does not fit.
        """
        dtype = self.dtype if dtype is None else np.dtype(dtype)
        given = self.arrays.get(name)
        if given is None:
            return np.empty(shape, dtype)
        fits = given.ndim == len(shape) and given.shape[1:] == shape[1:] and len(given) >= shape[0]
        if not fits or given.dtype != dtype or not given.flags.c_contiguous or not given.flags.writeable:
            raise InputError(
                f"out[{name!r}] is {given.dtype} {given.shape}; this call needs it writeable, C-contiguous, {dtype} "
                f"{shape}, or longer on its first axis"
            )
        return given[: shape[0]]

    def settle(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Bring finished tensors where they belong, in their dtype; what is there already is given back as it is."""
        return {name: self._settled(name, tensor) for name, tensor in tensors.items()}

    def _settled(self, name: str, tensor: NDArray[Any]) -> NDArray[Any]:
        dtype = self.dtype if tensor.dtype == np.float32 else tensor.dtype
        given = self.arrays.get(name)
        if given is None:
            return tensor.astype(dtype, copy=False)
        place = self.allocate(name, tensor.shape, dtype)
        if place.ctypes.data != tensor.ctypes.data:
            place[...] = tensor
        return place


DEFAULT_OUTPUTS: Final = Outputs()


def resolve_outputs(*, dtype: Any = None, out: Any = None) -> Outputs:
    """Read a call's `dtype` and `out`.

    Args:
        dtype: "float32", "float16", "bfloat16", a numpy dtype or scalar type; None for float32.
        out: arrays by tensor name; None for none.

    Raises:
        InputError: another dtype, an unknown name, something that is no array, or arrays that share memory.
        MissingDependencyError: bfloat16 without ml_dtypes, which brings it to numpy.
    """
    return Outputs(dtype=_float_dtype(dtype), arrays=_checked_arrays({} if out is None else out))


def _float_dtype(value: Any) -> np.dtype[Any]:
    if value is None:
        return np.dtype(np.float32)
    try:
        dtype: np.dtype[Any] = np.dtype(require("ml_dtypes", extra="fast").bfloat16 if value == "bfloat16" else value)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.name not in FLOAT_DTYPES:
        raise InputError(f"dtype is {value!r}; it must be one of {', '.join(FLOAT_DTYPES)}")
    return dtype


def _checked_arrays(out: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(out, Mapping):
        raise InputError(f"out is {type(out).__name__}; it must be a mapping of tensor names to numpy arrays")
    for name, array in out.items():
        if name not in MEDIA_TENSORS:
            raise InputError(f"out has an array for {name!r}; known are: {', '.join(MEDIA_TENSORS)}")
        if not isinstance(array, np.ndarray):
            raise InputError(f"out[{name!r}] is {type(array).__name__}; it must be a numpy array")
    for (first, a), (second, b) in combinations(out.items(), 2):
        if np.may_share_memory(a, b):
            raise InputError(f"out[{first!r}] and out[{second!r}] share memory; give each tensor its own")
    return dict(out)
