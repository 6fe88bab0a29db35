"""Right values in another form: a batch axis, exchanged axes, another name; and what to do about it."""

from collections.abc import Iterable
from itertools import permutations
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.records import Stages
from gemma4_mm.conformance.suspects.scene import same_bits

_MOST_PERMUTED: Final = 4  # axes; each order of them is tried
_ALIASES: Final = {
    "pixel_values": "patches",
    "pixel_values_videos": "patches",
    "image_position_ids": "position_ids",
    "video_position_ids": "position_ids",
    "pixel_position_ids": "position_ids",
    "num_soft_tokens": "soft_tokens",
    "num_soft_tokens_per_image": "soft_tokens",
    "input_features": "frames",
    "input_features_mask": "frames_mask",
    "input_ids": "token_ids",
    "mm_token_type_ids": "token_types",
    "patches": "pixel_values",
    "position_ids": "image_position_ids",
    "frames": "input_features",
}  # a name of Hugging Face's processor, or of another kind of case, to what SCHEMA.md calls it


def explain_shape(expected: NDArray[Any], actual: NDArray[Any]) -> str:
    """Say how `actual` holds the values of `expected` in another shape, and the next step; "" if it does not."""
    if actual.shape == (1, *expected.shape):
        equal = "" if same_bits(expected, actual[0]).all() else ", and values differ besides"
        return f"it has a batch axis of 1 in front{equal}; write the tensor without it"
    if actual.ndim == expected.ndim <= _MOST_PERMUTED and sorted(actual.shape) == sorted(expected.shape):
        if (order := _order(expected, actual)) is not None:
            return f"its axes are exchanged; write it transposed, axes {order} of yours"
        return "its axes look exchanged; write it in the order of axes that SCHEMA.md gives"
    if prod(actual.shape) == expected.size and same_bits(expected.reshape(-1), actual.reshape(-1)).all():
        return "the values are right, in this order; write them with the expected shape"
    return ""


def explain_transposed(expected: NDArray[Any], actual: NDArray[Any]) -> str:
    """Say that axes are exchanged where the shape does not show it; "" if they are not."""
    if 1 < expected.ndim <= _MOST_PERMUTED and (order := _order(expected, actual)) is not None:
        return f"its axes are exchanged; write it transposed, axes {order} of yours"
    return ""


def explain_extra(name: str, value: NDArray[Any], expected: Stages, given: Iterable[str]) -> str:
    """Say which missing stage an unknown one holds, and the next step.

    Args:
        name: of the stage that the reference does not have.
        value: its values.
        expected: the reference's stages.
        given: names of the subject's stages.
    """
    missing = [stage for stage in expected if stage not in set(given)]
    for stage in missing:
        right = expected[stage]
        if value.shape in (right.shape, (1, *right.shape)) and same_bits(right, value.reshape(right.shape)).all():
            return f"it holds the values of {stage}; name it {stage}"
    if _ALIASES.get(name) in missing:
        return f"SCHEMA.md calls it {_ALIASES[name]}; name it so"
    if missing:
        return f"rename it if it is one of those missing ({', '.join(missing)}), else leave it out"
    return "leave it out"


def _order(expected: NDArray[Any], actual: NDArray[Any]) -> tuple[int, ...] | None:
    """The order of axes that makes `actual` equal to `expected`."""
    for order in permutations(range(actual.ndim)):
        if order == tuple(range(actual.ndim)) or tuple(actual.shape[axis] for axis in order) != expected.shape:
            continue
        if same_bits(expected, np.ascontiguousarray(actual.transpose(order))).all():
            return order
    return None
