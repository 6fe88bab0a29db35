"""What a function takes and returns, as the asset's own descriptors say it, and what the bundle's contract asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from gemma4_mm.errors import AssetError
from gemma4_mm.optional import require
from gemma4_mm.spec import PATCH_VALUES, SAMPLES_PER_TOKEN

# Element types of the runtime that numpy does not know by name, and their ml_dtypes names.
_EXTENDED_DTYPES: Final[Mapping[str, str]] = {
    "bfloat16": "bfloat16",
    "float8e4m3fn": "float8_e4m3fn",
    "float8e5m2": "float8_e5m2",
}
_NATIVE_DTYPES: Final = frozenset(
    {"bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
)


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """Name, shape and element type of one input, state or output.

    Attributes:
        name: as the function knows it.
        shape: a size per axis; None where the asset takes any size.
        dtype: numpy dtype; bfloat16 and float8 through ml_dtypes.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype} [{sizes}]"


@dataclass(frozen=True, kw_only=True)
class FunctionSpec:
    """One function of an asset, read from its descriptors. Mappings keep the order of the asset."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    states: Mapping[str, TensorSpec] = field(default_factory=dict)

    @classmethod
    def from_descriptor(cls, descriptor: Any, *, name: str) -> "FunctionSpec":
        """Read `InferenceFunction.desc`.

        Raises:
            AssetError: an element type that numpy cannot hold.
        """
        return cls(
            name=name,
            inputs={key: _tensor(key, descriptor.input_descriptor(key)) for key in descriptor.input_names},
            outputs={key: _tensor(key, descriptor.output_descriptor(key)) for key in descriptor.output_names},
            states={key: _tensor(key, descriptor.state_descriptor(key)) for key in descriptor.state_names},
        )


@dataclass(frozen=True, kw_only=True)
class ContractFunction:
    """What one of the four functions is for, and what must hold of it; sizes that are not fixed carry a letter.

    Attributes:
        name: entry point.
        inputs: shape per input; a number is fixed by the model family, a letter or "…" is read from the asset.
        output: the output that is used, picked by name.
        shape: shape of the output.
        stateful: whether it reads and writes the KV states.
        purpose: one line for the function table.
    """

    name: str
    inputs: Mapping[str, tuple[int | str, ...]]
    output: str
    shape: tuple[int | str, ...]
    stateful: bool
    purpose: str

    def problems(self, spec: FunctionSpec) -> tuple[str, ...]:
        """Say where an asset's function departs from the contract; empty when it does not."""
        found = [f"{self.name} has no input {name}" for name in self.inputs if name not in spec.inputs]
        found += [f"{self.name} has an unknown input {name}" for name in spec.inputs if name not in self.inputs]
        if self.output not in spec.outputs:
            found.append(f"{self.name} has no output {self.output}; it has {', '.join(spec.outputs) or 'none'}")
        if self.stateful and not spec.states:
            found.append(f"{self.name} has no KV states")
        for name, wanted in self.inputs.items():
            if name in spec.inputs and not _compatible(wanted, spec.inputs[name].shape):
                found.append(f"{self.name}.{name} is {spec.inputs[name]}; it must be {_letters(wanted)}")
        return tuple(found)


# The functions of the bundle that this package runs. Source: the card of the user's bundle; mask rank, element types,
# vocabulary and context length are not documented and are read from the asset.
CONTRACT: Final[Mapping[str, ContractFunction]] = {
    function.name: function
    for function in (
        ContractFunction(
            name="main",
            inputs={"input_ids": (1, "q"), "position_ids": (1, "t")},
            output="logits",
            shape=(1, "q", "V"),
            stateful=True,
            purpose="text prefill and decode; causal, built-in sliding window",
        ),
        ContractFunction(
            name="prefill_multimodal",
            inputs={
                "input_ids": (1, "q"),
                "mm_embeds": (1, "q", "H"),
                "mm_mask": (1, "q"),
                "position_ids": (1, "t"),
                "mask_sliding": ("…", "q", "t"),
                "mask_global": ("…", "q", "t"),
            },
            output="logits",
            shape=(1, "q", "V"),
            stateful=True,
            purpose="multimodal prefill; embeddings spliced where mm_mask, masks override the built-in ones",
        ),
        ContractFunction(
            name="embed_vision",
            inputs={"pixel_values": (1, "P", PATCH_VALUES), "image_position_ids": (1, "P", 2)},
            output="embeds",
            shape=(1, "P", "H"),
            stateful=False,
            purpose="merged patches of one image or video frame to soft tokens",
        ),
        ContractFunction(
            name="embed_audio",
            inputs={"input_features": (1, "T", SAMPLES_PER_TOKEN)},
            output="embeds",
            shape=(1, "T", "H"),
            stateful=False,
            purpose="16 kHz frames of 640 samples to soft tokens",
        ),
    )
}


def function_table() -> list[tuple[str, str, str, str]]:
    """Rows (function, inputs, output, purpose) of the contract, as the bundle's document prints them."""
    rows = []
    for function in CONTRACT.values():
        inputs = [f"{name} {_letters(shape)}" for name, shape in function.inputs.items()]
        states = ["KV states"] if function.stateful else []
        output = f"{function.output} {_letters(function.shape)}"
        rows.append((function.name, ", ".join(inputs + states), output, function.purpose))
    return rows


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the numpy dtype of a runtime element type.

    Raises:
        AssetError: a type that cannot be fed from numpy here.
    """
    if name in _NATIVE_DTYPES:
        return np.dtype(name)
    if name in _EXTENDED_DTYPES:
        scalar: type[np.generic] = getattr(require("ml_dtypes", extra="coreai"), _EXTENDED_DTYPES[name])
        return np.dtype(scalar)
    known = ", ".join(sorted(_NATIVE_DTYPES | set(_EXTENDED_DTYPES)))
    raise AssetError(f"the asset uses the element type {name!r}; this package knows {known}; export with one of them")


def _tensor(name: str, descriptor: Any) -> TensorSpec:
    # Documented as None, seen as -1: a size that the asset leaves open.
    sizes = tuple(None if size is None or size < 0 else int(size) for size in descriptor.shape)
    return TensorSpec(name=name, shape=sizes, dtype=numpy_dtype(str(descriptor.dtype)))


def _compatible(wanted: tuple[int | str, ...], actual: tuple[int | None, ...]) -> bool:
    if wanted[0] == "…":  # a rank that is not documented: leading axes must be 1 or open
        lead = len(actual) - (len(wanted) - 1)
        return lead >= 0 and all(size in {1, None} for size in actual[:lead])
    return len(wanted) == len(actual) and all(
        isinstance(want, str) or size is None or size == want for want, size in zip(wanted, actual, strict=True)
    )


def _letters(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(str(size) for size in shape)}]"
