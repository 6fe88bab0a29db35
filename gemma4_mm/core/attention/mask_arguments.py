"""Checks of what the mask builders are given: each refusal says what, the limit, and the next step."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemma4_mm.core.attention.blocks import is_packed, is_vision
from gemma4_mm.errors import InputError
from gemma4_mm.spec import TYPE_AUDIO, MaskRule


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskArguments:
    """Checked arguments of `describe_masks`.

    Attributes:
        types: integers `(batch, tokens)`, all in 0…3.
        valid_keys: bool `(batch, tokens)`; None if every token is valid.
        rule: a known rule.
        sliding_window: at least 1.
        past_length: below the tokens.
        n_keys: at least the tokens.
        position_ids: integers `(batch, tokens)` of packed sequences; None if nothing is packed.
    """

    types: NDArray[np.integer]
    valid_keys: NDArray[np.bool_] | None
    rule: MaskRule
    sliding_window: int
    past_length: int
    n_keys: int
    position_ids: NDArray[np.integer] | None


def check_arguments(
    mm_token_type_ids: ArrayLike,
    *,
    attention_mask: ArrayLike | None,
    rule: MaskRule,
    sliding_window: int,
    past_length: int,
    capacity: int | None,
    position_ids: ArrayLike | None,
) -> MaskArguments:
    """Check the arguments of `describe_masks` one by one and against each other.

    Raises:
        InputError: as `describe_masks` lists.
    """
    types = _check_types(mm_token_type_ids)
    n_tokens = types.shape[1]
    if rule not in get_args(MaskRule):
        raise InputError(f"mask rule {rule!r} is unknown; choose one of {', '.join(get_args(MaskRule))}")
    if sliding_window < 1:
        raise InputError(f"sliding_window is {sliding_window}; it must be at least 1; the model's own is 1024")
    n_keys = n_tokens if capacity is None else capacity
    if max(n_tokens, past_length) > n_keys:
        raise InputError(
            f"{past_length} cached and {n_tokens - past_length} new tokens do not fit into a KV capacity of {n_keys}; "
            "shorten the prompt or use a larger cache"
        )
    if not 0 <= past_length < n_tokens:
        raise InputError(
            f"past_length is {past_length} of {n_tokens} tokens; mm_token_type_ids holds the cached tokens and at "
            "least one new one"
        )
    if position_ids is not None and (attention_mask is not None or past_length):
        raise InputError(
            "position_ids mark packed sequences, which have neither padding nor past (Hugging Face ignores them "
            "there); give position_ids alone, or leave them out"
        )
    return MaskArguments(
        types=types,
        valid_keys=None if attention_mask is None else _check_attention(attention_mask, types),
        rule=rule,
        sliding_window=sliding_window,
        past_length=past_length,
        n_keys=n_keys,
        position_ids=None if position_ids is None else _check_positions(position_ids, types, rule),
    )


def check_queries(start: int, stop: int, *, n_tokens: int) -> None:
    """Check that `[start, stop)` are tokens, at least one.

    Raises:
        InputError: they are not.
    """
    if not 0 <= start < stop <= n_tokens:
        raise InputError(f"queries [{start}, {stop}) are not among the {n_tokens} tokens; choose 0 ≤ start < stop")


def _check_types(mm_token_type_ids: ArrayLike) -> NDArray[np.integer]:
    types = np.asarray(mm_token_type_ids)
    if types.ndim != 2 or types.size == 0 or types.dtype.kind not in "iu":
        raise InputError(
            f"mm_token_type_ids is {types.dtype} {types.shape}; it must be integers (batch, tokens), at least one token"
        )
    low, high = int(types.min()), int(types.max())
    if low < 0 or high > TYPE_AUDIO:
        raise InputError(
            f"mm_token_type_ids holds {low if low < 0 else high}; a type is 0 text, 1 image, 2 video or 3 audio; "
            "did you pass input_ids?"
        )
    return types


def _check_attention(attention_mask: ArrayLike, types: NDArray[np.integer]) -> NDArray[np.bool_] | None:
    mask = np.asarray(attention_mask)
    if mask.shape != types.shape:
        raise InputError(
            f"attention_mask is {mask.shape}, mm_token_type_ids {types.shape}; both cover the cached and the new "
            "tokens of every row"
        )
    valid = mask != 0
    if mask.dtype.kind not in "biu" or bool((valid != mask).any()):
        raise InputError(
            f"attention_mask is {mask.dtype} with values other than 0 and 1; give 1 for tokens and 0 for padding"
        )
    hidden = np.argwhere(is_vision(types) & ~valid)
    if len(hidden):
        row, token = hidden[0].tolist()
        raise InputError(
            f"attention_mask is 0 inside a vision block, at row {row}, token {token}; pad at the ends of a row, not "
            "within an image or frame"
        )
    return None if valid.all() else valid


def _check_positions(position_ids: ArrayLike, types: NDArray[np.integer], rule: MaskRule) -> NDArray[np.integer] | None:
    positions = np.asarray(position_ids)
    batch, n_tokens = types.shape
    if positions.shape not in {(1, n_tokens), (batch, n_tokens)} or positions.dtype.kind not in "iu":
        raise InputError(
            f"position_ids is {positions.dtype} {positions.shape}; it must be integers {(batch, n_tokens)} or "
            f"{(1, n_tokens)}"
        )
    if not is_packed(positions):
        return None
    low, high = int(positions.min()), int(positions.max())
    if rule == "static" and (low < 0 or high >= n_tokens):
        raise InputError(
            f"position_ids go from {low} to {high}; the static rule looks vision blocks up there, so they must be "
            f"0 to {n_tokens - 1}"
        )
    return np.broadcast_to(positions, types.shape)
