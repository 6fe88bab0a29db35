"""Two outcomes of a call, compared in type, dtype, shape and every bit; errors in type and text."""

import warnings
from collections.abc import Mapping

import numpy as np


def outcome(call):
    """What a call returns, or the error that it raises. Warnings are no part of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except Exception as error:  # noqa: BLE001 (compared by the caller)
            return error


def assert_same(theirs, ours):
    import torch

    assert type(ours) is type(theirs), (theirs, ours)
    if isinstance(theirs, Exception):
        assert str(ours) == str(theirs)
    elif isinstance(theirs, torch.Tensor):
        assert (ours.dtype, ours.shape, ours.device) == (theirs.dtype, theirs.shape, theirs.device)
        assert ours.is_contiguous() == theirs.is_contiguous()
        assert (
            ours.contiguous().view(torch.uint8).numpy().tobytes()
            == theirs.contiguous().view(torch.uint8).numpy().tobytes()
        )
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()
    elif isinstance(theirs, Mapping) or hasattr(theirs, "data"):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(theirs[key], ours[key])
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(theirs, ours, strict=True):
            assert_same(one, other)
    else:
        assert repr(ours) == repr(theirs)


def compare(theirs, ours, call):
    """Make one call on both processors; returns what ours gave."""
    wanted, given = outcome(lambda: call(theirs)), outcome(lambda: call(ours))
    assert_same(wanted, given)
    return given
