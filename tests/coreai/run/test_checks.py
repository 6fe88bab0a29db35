"""Every fault is named before the runtime sees it: which input, what it was, what it must be."""

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.coreai.run.checks import Bounds, Window, prepare
from gemma4_mm.errors import InputError
from tests.coreai import specs

BOUNDS = Bounds(vocabulary=50, position_table=1120)
EMPTY = Window(past=0, capacity=15)
Q = 3


def inputs(**changed: Any) -> dict[str, Any]:
    """Three tokens after none, valid; `changed` replaces inputs, None removes one."""
    valid = {
        "input_ids": np.array([1, 2, 49]),
        "mm_embeds": np.ones((Q, 4), np.float32),
        "mm_mask": np.array([False, True, True]),
        "position_ids": np.arange(Q),
        "mask_sliding": np.ones((Q, Q), np.bool_),
        "mask_global": np.ones((Q, Q), np.uint8),
        **changed,
    }
    return {name: value for name, value in valid.items() if value is not None}


def test_valid_inputs_come_back_in_the_descriptors_ranks_and_types() -> None:
    spec = specs.prefill(floats=specs.BFLOAT16)
    arrays = prepare(spec, inputs(), bounds=BOUNDS, window=EMPTY)
    assert {name: (array.shape, array.dtype) for name, array in arrays.items()} == {
        "input_ids": ((1, 3), np.int32),
        "mm_embeds": ((1, 3, 4), specs.BFLOAT16),
        "mm_mask": ((1, 3), np.bool_),
        "position_ids": ((1, 3), np.int32),
        "mask_sliding": ((1, 1, 3, 3), np.bool_),
        "mask_global": ((1, 1, 3, 3), np.bool_),
    }
    assert all(array.flags.c_contiguous for array in arrays.values())


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_masks_take_the_rank_of_the_asset(rank: int) -> None:
    arrays = prepare(specs.prefill(mask_rank=rank), inputs(), bounds=BOUNDS, window=EMPTY)
    assert arrays["mask_sliding"].shape == (1,) * (rank - 2) + (Q, Q)


def test_position_ids_are_implied_by_the_state() -> None:
    past = 4
    mask = np.ones((Q, past + Q), np.bool_)
    given_inputs = inputs(position_ids=None, mask_sliding=mask, mask_global=mask)
    arrays = prepare(specs.prefill(), given_inputs, bounds=BOUNDS, window=Window(past=past, capacity=15))
    assert arrays["position_ids"].tolist() == [list(range(past + Q))]


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("missing", {"mm_mask": None}, r"prefill_multimodal needs mm_mask; its inputs are input_ids, mm_embeds, "),
    ("unknown", {"pixels": 1}, r"does not know pixels; its inputs are"),
    ("rank", {"input_ids": np.ones((2, 2, 3), int)}, r"input_ids is int64 \[2, 2, 3\]; it must be int32 \[1, \?\]"),
    ("batch", {"input_ids": np.ones((2, 3), int)}, r"input_ids is int64 \[2, 3\]; it must be int32 \[1, \?\]"),
    ("last axis", {"mm_embeds": np.ones((3, 5), np.float32)}, r"float32 \[3, 5\]; it must be float32 \[1, \?, 4\]"),
    ("empty", {"input_ids": np.ones((1, 0), int)}, r"input_ids is int64 \[1, 0\], which is empty"),
    ("float ids", {"input_ids": [1.0, 2.0, 3.0]}, r"it must be integer \(int32\), and float is not converted"),
    ("bool ids", {"input_ids": [True, True, True]}, r"and bool is not converted"),
    (
        "int embeds",
        {"mm_embeds": np.ones((3, 4), int)},
        r"mm_embeds is int64 \[1, 3, 4\]; it must be float \(float32\)",
    ),
    ("text", {"input_ids": ["a", "b", "c"]}, r"and of type <U1 is not converted"),
    ("objects", {"input_ids": [None, None, None]}, r"and of type object is not converted"),
    ("complex", {"mm_embeds": np.ones((3, 4), complex)}, r"and of type complex128 is not converted"),
    ("ragged", {"input_ids": [[1, 2], [3]]}, r"input_ids cannot be read as an array"),
    ("mask of 2", {"mask_global": np.full((3, 3), 2)}, r"mask_global holds 2 at \[0, 0, 0, 0\]; a mask holds 0 and 1"),
    ("float mask", {"mm_mask": np.zeros(3, np.float32)}, r"it must be bool \(bool\), and float is not converted"),
    ("wide id", {"input_ids": [1, 2, 2**40]}, r"input_ids holds 1099511627776 at \[0, 2\]; int32 ends at"),
    ("high id", {"input_ids": [1, 50, 2]}, r"input_ids holds 50 at \[0, 1\]; a token id runs from 0 to 49"),
    ("negative id", {"input_ids": [1, 2, -1]}, r"input_ids holds -1 at \[0, 2\]; a token id runs from 0 to 49"),
    ("nan", {"mm_embeds": np.full((3, 4), np.nan)}, r"holds nan at \[0, 0, 0\]; every value must be finite in float32"),
    ("overflow", {"mm_embeds": np.full((3, 4), 1e300)}, r"holds 1e\+300 at .* must be finite in float32"),
    (
        "short ramp",
        {"position_ids": [0, 1]},
        r"position_ids has 2 entries; it must have 3: 0 tokens in the state and 3",
    ),
    ("long ramp", {"position_ids": [0, 1, 2, 3]}, r"position_ids has 4 entries; it must have 3"),
    ("not a ramp", {"position_ids": [0, 2, 1]}, r"position_ids holds 2 at \[1\]; it must be 0, 1, …, 2"),
    ("embeds q", {"mm_embeds": np.ones((2, 4), np.float32)}, r"axis -2 is 2; it must be 3, as in input_ids"),
    ("mask q", {"mask_sliding": np.ones((2, 3), bool)}, r"mask_sliding is bool \[1, 1, 2, 3\]: axis -2 is 2; it must"),
    ("mask t", {"mask_global": np.ones((3, 4), bool)}, r"axis -1 is 4; it must be 3, as in position_ids"),
    ("mm_mask q", {"mm_mask": np.ones(4, bool)}, r"mm_mask is bool \[1, 4\]: axis -1 is 4; it must be 3"),
]


@pytest.mark.parametrize(("changed", "message"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_each_fault_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(specs.prefill(), inputs(**changed), bounds=BOUNDS, window=EMPTY)


def test_a_call_beyond_the_capacity() -> None:
    with pytest.raises(InputError, match=r"input_ids has 3 tokens after 13; the KV state takes 15"):
        prepare(specs.prefill(), inputs(), bounds=BOUNDS, window=Window(past=13, capacity=15))


def test_one_call_may_not_fill_the_state() -> None:
    """Exported query axes end one below the positions; the last place is for a further call."""
    with pytest.raises(InputError, match="at most 2 in one call"):
        prepare(specs.prefill(), inputs(), bounds=BOUNDS, window=Window(past=0, capacity=3))


@pytest.mark.parametrize("place", [-2, 1120])
def test_patch_positions_outside_the_table(place: int) -> None:
    faulty = {"pixel_values": np.zeros((2, 6912), np.float32), "image_position_ids": [[0, 0], [0, place]]}
    with pytest.raises(InputError, match=rf"holds {place} at \[0, 1, 1\]; a patch position .* from -1 to 1119"):
        prepare(specs.vision(), faulty, bounds=BOUNDS)


def test_patches_and_positions_must_be_as_many() -> None:
    faulty = {"pixel_values": np.zeros((2, 6912), np.float32), "image_position_ids": np.zeros((3, 2), int)}
    with pytest.raises(InputError, match=re.escape("axis -2 is 3; it must be 2, as in pixel_values")):
        prepare(specs.vision(), faulty, bounds=BOUNDS)


def test_inputs_must_be_a_mapping() -> None:
    with pytest.raises(InputError, match="takes a mapping of input names to arrays, not list"):
        prepare(specs.vision(), [1], bounds=BOUNDS)


@pytest.mark.parametrize("source", [np.float16, np.float32, np.float64, np.longdouble, ml_dtypes.bfloat16, ">f4"])
@pytest.mark.parametrize("target", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_floats_of_any_width_become_the_descriptors(source: Any, target: Any) -> None:
    values = np.linspace(-3, 3, 12).reshape(3, 4).astype(source)
    arrays = prepare(specs.prefill(floats=target), inputs(mm_embeds=values), bounds=BOUNDS, window=EMPTY)
    assert arrays["mm_embeds"].dtype == np.dtype(target)
    assert np.array_equal(arrays["mm_embeds"][0], values.astype(np.dtype(target)))


def test_a_float_that_float16_cannot_hold() -> None:
    faulty = inputs(mm_embeds=np.full((3, 4), 70000.0))
    with pytest.raises(InputError, match=r"holds 70000.0 at \[0, 0, 0\]; every value must be finite in float16"):
        prepare(specs.prefill(floats=np.float16), faulty, bounds=BOUNDS, window=EMPTY)


@settings(max_examples=150)
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8))
def test_ids_pass_exactly_when_every_one_is_in_the_vocabulary(values: list[int]) -> None:
    q = len(values)
    mask = np.ones((q, q), np.bool_)
    candidate = inputs(
        input_ids=np.array(values, np.int64),
        mm_embeds=np.zeros((q, 4), np.float32),
        mm_mask=np.zeros(q, np.bool_),
        position_ids=None,
        mask_sliding=mask,
        mask_global=mask,
    )
    if all(0 <= value < BOUNDS.vocabulary for value in values):
        arrays = prepare(specs.prefill(), candidate, bounds=BOUNDS, window=EMPTY)
        assert arrays["input_ids"].tolist() == [values]
    else:
        with pytest.raises(InputError, match="input_ids holds"):
            prepare(specs.prefill(), candidate, bounds=BOUNDS, window=EMPTY)


def test_the_callers_arrays_are_not_changed() -> None:
    given_inputs = inputs()
    before = {name: np.copy(value) for name, value in given_inputs.items()}
    prepare(specs.prefill(floats=specs.BFLOAT16), given_inputs, bounds=BOUNDS, window=EMPTY)
    assert all(np.array_equal(before[name], given_inputs[name]) for name in before)
