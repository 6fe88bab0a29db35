"""The whole processor against the live oracle: the same keys, dtypes, shapes and bits for the same call."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings

from gemma4_mm.testing.strategies import template_calls

pytestmark = pytest.mark.parity


def assert_same_tensors(ours, theirs):
    """Every key, dtype, shape and bit.

    One dtype is not the reference's: where no row has a token, numpy makes float64 of its empty lists of token types.
    """
    assert list(ours) == list(theirs)
    for key, expected in theirs.items():
        actual, expected = ours[key], np.asarray(expected)
        if key == "mm_token_type_ids" and not expected.size:
            expected = expected.astype(np.int64)
        assert (key, actual.dtype, actual.shape) == (key, expected.dtype, expected.shape)
        assert np.array_equal(actual, expected), key


def reference_template(hf_processor, call):
    arguments = copy.deepcopy(call.arguments)
    return hf_processor.apply_chat_template(
        call.conversation, tokenize=True, return_dict=True, return_tensors="np", **arguments
    )


@given(call=template_calls())
@settings(max_examples=220)
def test_conversations_give_the_same_tensors(processor, hf_processor, call):
    theirs = reference_template(hf_processor, call)
    ours = processor.apply_chat_template(call.conversation, tokenize=True, return_dict=True, **call.arguments)
    assert_same_tensors(ours, theirs)
    layout = processor.plan(call.conversation, **call.arguments)
    assert np.array_equal(layout.input_ids, ours["input_ids"])
    assert np.array_equal(layout.mm_token_type_ids, ours["mm_token_type_ids"])
    assert layout.segments == ours.segments
    assert layout.token_counts == ours.token_counts
