"""Descriptors become specs; the contract says where an asset departs from the bundle's document."""

from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gemma4_mm.coreai.bundle.specs import CONTRACT, FunctionSpec, TensorSpec, function_table, numpy_dtype
from gemma4_mm.errors import AssetError
from tests.coreai import specs


@dataclass
class FakeArray:
    shape: list[int | None]
    dtype: str


class FakeFunction:
    """What `InferenceFunction.desc` offers."""

    input_names = ("pixel_values",)
    output_names = ("embeds", "hidden")
    state_names = ("keyCache",)

    def __init__(self, dtype: str = "bfloat16") -> None:
        self._dtype = dtype

    def input_descriptor(self, name: str) -> FakeArray:
        assert name == "pixel_values"
        return FakeArray([1, -1, 6912], self._dtype)

    def output_descriptor(self, name: str) -> FakeArray:
        assert name in self.output_names
        return FakeArray([1, None, 4], "float16")

    def state_descriptor(self, name: str) -> FakeArray:
        assert name in self.state_names
        return FakeArray([2, 1, 8, 64, 256], "bfloat16")


def test_a_descriptor_is_read_with_open_axes_as_none_whichever_way_they_are_marked() -> None:
    spec = FunctionSpec.from_descriptor(FakeFunction(), name="embed_vision")
    assert str(spec.inputs["pixel_values"]) == "bfloat16 [1, ?, 6912]"
    assert spec.outputs["embeds"].shape == (1, None, 4)
    assert list(spec.outputs) == ["embeds", "hidden"]
    assert spec.states["keyCache"].dtype == np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("name", ["bool", "int32", "float16", "float32"])
def test_native_types(name: str) -> None:
    assert numpy_dtype(name) == np.dtype(name)


def test_a_type_that_numpy_cannot_hold_is_named() -> None:
    with pytest.raises(AssetError, match="uses the element type 'int4'; this package knows bfloat16, bool"):
        FunctionSpec.from_descriptor(FakeFunction("int4"), name="embed_vision")


def test_specs_of_the_documented_bundle_have_no_problems() -> None:
    for floats in (np.float16, np.float32, ml_dtypes.bfloat16):
        assert CONTRACT["embed_vision"].problems(specs.vision(floats=floats)) == ()
        for rank in (2, 3, 4):
            spec = specs.prefill(floats=floats, hidden=3840, mask_rank=rank)
            assert CONTRACT["prefill_multimodal"].problems(spec) == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"inputs": {}}, "embed_vision has no input pixel_values"),
        ({"outputs": {}}, "embed_vision has no output embeds; it has none"),
        (
            {"inputs": specs.tensors(pixel_values=((1, None, 768), np.float32))},
            "embed_vision.pixel_values is float32 [1, ?, 768]; it must be [1, P, 6912]",
        ),
        ({"inputs": specs.tensors(mystery=((1,), np.float32))}, "embed_vision has an unknown input mystery"),
    ],
)
def test_departures_are_told(changes: dict[str, Any], problem: str) -> None:
    assert problem in CONTRACT["embed_vision"].problems(replace(specs.vision(), **changes))


def test_a_decoder_without_states_is_told() -> None:
    stateless = replace(specs.prefill(), states={})
    assert "prefill_multimodal has no KV states" in CONTRACT["prefill_multimodal"].problems(stateless)


def test_a_mask_with_a_batch_is_told() -> None:
    batched = dict(specs.prefill().inputs)
    batched["mask_global"] = TensorSpec(name="mask_global", shape=(4, 1, None, None), dtype=np.dtype(np.bool_))
    found = CONTRACT["prefill_multimodal"].problems(replace(specs.prefill(), inputs=batched))
    assert found == ("prefill_multimodal.mask_global is bool [4, 1, ?, ?]; it must be […, q, t]",)


def test_the_function_table_is_the_documents() -> None:
    rows = [(name, inputs, output) for name, inputs, output, _ in function_table()]
    assert rows == [
        ("main", "input_ids [1, q], position_ids [1, t], KV states", "logits [1, q, V]"),
        (
            "prefill_multimodal",
            ", ".join(
                [
                    *("input_ids [1, q]", "mm_embeds [1, q, H]", "mm_mask [1, q]", "position_ids [1, t]"),
                    *("mask_sliding […, q, t]", "mask_global […, q, t]", "KV states"),
                ]
            ),
            "logits [1, q, V]",
        ),
        ("embed_vision", "pixel_values [1, P, 6912], image_position_ids [1, P, 2]", "embeds [1, P, H]"),
        ("embed_audio", "input_features [1, T, 640]", "embeds [1, T, H]"),
    ]
