"""Every fault that the runtime would crash on or accept in silence, found before it is called. Pure numpy.

What the runtime itself does, seen with coreai-core 1.0.0b3: a wrong float width, a wrong last axis or a wrong state
type ends the process; an id beyond the vocabulary raises and may abort later; negative ids wrap, and a ramp that does
not fit the cache is accepted.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.coreai.bundle.specs import FunctionSpec, TensorSpec
from gemma4_mm.errors import InputError

_NAMES_SHOWN: Final = 8


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Ranges that an asset's descriptors imply but do not enforce.

    Attributes:
        vocabulary: token ids run from 0 to one below this.
        position_table: patch positions run from -1 (padding) to one below this.
    """

    vocabulary: int
    position_table: int


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of a KV state that one call writes.

    Attributes:
        past: tokens already in the state.
        capacity: tokens that it takes in all, see `KVState.capacity`.
    """

    past: int
    capacity: int


def prepare(
    spec: FunctionSpec, inputs: Mapping[str, Any], *, bounds: Bounds, window: Window | None = None
) -> dict[str, NDArray[Any]]:
    """Check `inputs` against the function and convert them to its element types, C-contiguous.

    Integers become the asset's integer type if every value fits; floats its float type if none overflows; 0/1
    integers become bool. Leading axes of size 1 may be left out or added, since the rank of the masks is not
    documented; nothing else is reshaped.

    Args:
        spec: the function, from its descriptors.
        inputs: arrays or nested sequences by input name; with a window, `position_ids` may be left out.
        bounds: value ranges.
        window: what the KV state holds, for `main` and `prefill_multimodal`.

    Raises:
        InputError: says which input, what it was and what it must be.
    """
    implied = {"position_ids"} if window is not None else set()
    _check_names(spec, inputs, optional=implied)
    arrays = {
        name: _convert(tensor, inputs[name], function=spec.name)
        for name, tensor in spec.inputs.items()
        if name in inputs
    }
    _check_values(arrays, bounds=bounds, function=spec.name)
    if window is not None:
        _check_capacity(arrays["input_ids"], window=window, function=spec.name)
        stop = window.past + arrays["input_ids"].shape[-1]
        if "position_ids" in arrays:
            _check_ramp(arrays["position_ids"], stop=stop, past=window.past, function=spec.name)
        else:
            arrays["position_ids"] = _implied_ramp(spec, stop=stop, capacity=window.capacity)
    _check_same_length(arrays, function=spec.name)
    return arrays


def _check_names(spec: FunctionSpec, inputs: Mapping[str, Any], *, optional: AbstractSet[str]) -> None:
    if not isinstance(inputs, Mapping):
        raise InputError(f"{spec.name} takes a mapping of input names to arrays, not {type(inputs).__name__}")
    unknown = [str(name) for name in inputs if name not in spec.inputs]
    missing = [name for name in spec.inputs if name not in inputs and name not in optional]
    if not unknown and not missing:
        return
    faults = [f"does not know {', '.join(unknown[:_NAMES_SHOWN])}"] if unknown else []
    faults += [f"needs {', '.join(missing)}"] if missing else []
    raise InputError(f"{spec.name} {' and '.join(faults)}; its inputs are {', '.join(spec.inputs)}")


def _convert(tensor: TensorSpec, value: Any, *, function: str) -> NDArray[Any]:
    label = f"{function}.{tensor.name}"
    array = _as_array(value, label=label, wanted=tensor)
    shaped = _fit_rank(array, rank=len(tensor.shape))
    _check_shape(tensor, shaped, array, label=label)
    return np.ascontiguousarray(_cast(shaped, tensor.dtype, label=label))


def _check_shape(tensor: TensorSpec, shaped: NDArray[Any], given: NDArray[Any], *, label: str) -> None:
    if shaped.ndim != len(tensor.shape) or any(
        size is not None and size != actual for size, actual in zip(tensor.shape, shaped.shape, strict=True)
    ):
        raise InputError(f"{label} is {_describe(given)}; it must be {tensor} ('?' is any size)")
    if shaped.size == 0:
        raise InputError(f"{label} is {_describe(given)}, which is empty; it must be {tensor} with at least 1 element")


def _as_array(value: Any, *, label: str, wanted: TensorSpec) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"{label} cannot be read as an array ({error}); it must be {wanted}") from error
    return array


def _fit_rank(array: NDArray[Any], *, rank: int) -> NDArray[Any]:
    """Add leading axes of size 1, or take them away."""
    if array.ndim < rank:
        return array.reshape((1,) * (rank - array.ndim) + array.shape)
    extra = array.ndim - rank
    return array.reshape(array.shape[extra:]) if extra and array.shape[:extra] == (1,) * extra else array


def _cast(array: NDArray[Any], dtype: np.dtype[Any], *, label: str) -> NDArray[Any]:
    source, target = _kind(array.dtype), _kind(dtype)
    if target == "bool" and source in {"bool", "integer"}:
        binary = (array == 0) | (array == 1)
        if not binary.all():
            raise InputError(f"{label} holds {_outlier(array, binary)}; a mask holds 0 and 1 only")
        return array.astype(np.bool_, copy=False)
    if target == "integer" and source == "integer":
        limits = np.iinfo(dtype)
        fits = (array >= limits.min) & (array <= limits.max)
        if not fits.all():
            raise InputError(f"{label} holds {_outlier(array, fits)}; {dtype} ends at {limits.min} and {limits.max}")
        return array.astype(dtype, copy=False)
    if target == "float" and source == "float":
        with np.errstate(over="ignore", invalid="ignore"):  # found and named below
            converted = array.astype(dtype, copy=False)
        finite = np.isfinite(converted)
        if not finite.all():
            raise InputError(f"{label} holds {_outlier(array, finite)}; every value must be finite in {dtype}")
        return converted
    raise InputError(f"{label} is {_describe(array)}; it must be {target} ({dtype}), and {source} is not converted")


def _kind(dtype: np.dtype[Any]) -> str:
    if dtype == np.bool_:
        return "bool"
    if np.issubdtype(dtype, np.integer):
        return "integer"
    # ml_dtypes' floats are outside numpy's tree (kind "V"), but have a finfo of their own and cast like floats.
    if np.issubdtype(dtype, np.floating) or dtype.name.startswith(("bfloat", "float")):
        return "float"
    return f"of type {dtype}"


def _check_values(arrays: Mapping[str, NDArray[Any]], *, bounds: Bounds, function: str) -> None:
    ranges = {
        "input_ids": (0, bounds.vocabulary, "a token id"),
        "image_position_ids": (-1, bounds.position_table, "a patch position (-1 is padding)"),
    }
    for name, (first, stop, meaning) in ranges.items():
        if name in arrays:
            inside = (arrays[name] >= first) & (arrays[name] < stop)
            if not inside.all():
                raise InputError(
                    f"{function}.{name} holds {_outlier(arrays[name], inside)}; {meaning} runs from {first} "
                    f"to {stop - 1}"
                )


def _check_capacity(input_ids: NDArray[Any], *, window: Window, function: str) -> None:
    queries = input_ids.shape[-1]
    if window.past + queries > window.capacity or queries >= window.capacity:  # an exported query axis ends earlier
        raise InputError(
            f"{function}.input_ids has {queries} tokens after {window.past}; the KV state takes {window.capacity}, "
            f"and at most {window.capacity - 1} in one call; shorten the prompt, or use a bundle with a longer context"
        )


def _check_ramp(position_ids: NDArray[Any], *, stop: int, past: int, function: str) -> None:
    """The ramp must be exactly [0, past + q): the graph takes its offset from the two lengths."""
    positions = position_ids.reshape(-1)
    if positions.size != stop:
        raise InputError(
            f"{function}.position_ids has {positions.size} entries; it must have {stop}: {past} tokens in the state "
            f"and {stop - past} new ones"
        )
    ramp = positions == np.arange(stop)
    if not ramp.all():
        raise InputError(f"{function}.position_ids holds {_outlier(positions, ramp)}; it must be 0, 1, …, {stop - 1}")


def _implied_ramp(spec: FunctionSpec, *, stop: int, capacity: int) -> NDArray[Any]:
    """The ramp [0, stop) as a view: a decoded token costs no work in proportion to what precedes it."""
    tensor = spec.inputs["position_ids"]
    ramp = _whole_ramp(capacity, tensor.dtype)[:, :stop]
    _check_shape(tensor, ramp, ramp, label=f"{spec.name}.{tensor.name}")
    return ramp


@lru_cache(maxsize=8)
def _whole_ramp(capacity: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """`[[0, …, capacity)]`, read-only; one for each capacity, shared by all states of it."""
    ramp = _cast(np.arange(capacity, dtype=np.int64)[None], dtype, label="position_ids")
    ramp.flags.writeable = False
    return ramp


def _check_same_length(arrays: Mapping[str, NDArray[Any]], *, function: str) -> None:
    """Open axes that must agree: q and t across a decoder call, P across an image's two inputs."""
    pairs = (
        ("mm_embeds", -2, "input_ids", -1),
        ("mm_mask", -1, "input_ids", -1),
        ("mask_sliding", -2, "input_ids", -1),
        ("mask_global", -2, "input_ids", -1),
        ("mask_sliding", -1, "position_ids", -1),
        ("mask_global", -1, "position_ids", -1),
        ("image_position_ids", -2, "pixel_values", -2),
    )
    for name, axis, reference, reference_axis in pairs:
        if name in arrays and reference in arrays:
            actual, wanted = arrays[name].shape[axis], arrays[reference].shape[reference_axis]
            if actual != wanted:
                raise InputError(
                    f"{function}.{name} is {_describe(arrays[name])}: axis {axis} is {actual}; it must be {wanted}, "
                    f"as in {reference}"
                )


def _outlier(array: NDArray[Any], accepted: NDArray[np.bool_]) -> str:
    """The first refused value and its index, e.g. '-1 at [0, 3]'."""
    index = np.unravel_index(int(np.argmin(accepted)), accepted.shape)
    return f"{array[index]} at {[int(axis) for axis in index]}"


def _describe(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
