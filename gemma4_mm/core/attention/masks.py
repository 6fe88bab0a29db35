"""Attention masks of Gemma 4 12B as a specification of two numbers per token, under every reference's rule.

    specs = describe_masks(inputs["mm_token_type_ids"], attention_mask=inputs["attention_mask"])
    specs.sliding_attention.rows(512, 1024)  # only these queries: no n×n array
    masks = build_masks(inputs["mm_token_type_ids"])  # masks.mask_sliding, masks.mask_global

The rules, as formulas and drawn, are in `core.attention.mask_rules`. Everywhere True means that query q attends to key
k. A 0 in `attention_mask` takes that *key* from every query and changes nothing else, as in Hugging Face: a padding
query still has a row, which is all False where it would see nothing but padding (left padding, say).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gemma4_mm.core.attention.attention_mask import AttentionMask
from gemma4_mm.core.attention.blocks import TokenRuns, find_runs
from gemma4_mm.core.attention.mask_arguments import MaskArguments, check_arguments, check_queries
from gemma4_mm.core.attention.mask_rules import RULES, LayerKind
from gemma4_mm.errors import InputError
from gemma4_mm.spec import SLIDING_WINDOW, MaskRule

__all__ = ["AttentionMask", "MaskSpecs", "Masks", "build_masks", "describe_masks", "to_additive", "to_uint8"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Masks:
    """The two masks that `prefill_multimodal` takes, bool `(batch, 1, queries, keys)`, True = attend.

    Attributes:
        mask_sliding: of the sliding-window layers.
        mask_global: of the full-attention layers.
    """

    mask_sliding: NDArray[np.bool_]
    mask_global: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskSpecs:
    """The specifications of both kinds of layers, named as in HF's `layer_types`."""

    sliding_attention: AttentionMask
    full_attention: AttentionMask

    def rows(self, start: int, stop: int, *, key_stop: int | None = None) -> Masks:
        """Both masks of queries `[start, stop)`; see `AttentionMask.rows`."""
        return Masks(
            mask_sliding=self.sliding_attention.rows(start, stop, key_stop=key_stop),
            mask_global=self.full_attention.rows(start, stop, key_stop=key_stop),
        )


def describe_masks(
    mm_token_type_ids: ArrayLike,
    *,
    attention_mask: ArrayLike | None = None,
    rule: MaskRule = "forward",
    sliding_window: int = SLIDING_WINDOW,
    past_length: int = 0,
    capacity: int | None = None,
    position_ids: ArrayLike | None = None,
) -> MaskSpecs:
    """Describe both masks of a batch in O(n) time and memory.

    Args:
        mm_token_type_ids: integers `(batch, tokens)`: 1 image, 2 video, 3 audio, 0 everything else; the cached tokens
            come first.
        attention_mask: `(batch, tokens)`, 0 for padding; None if there is none.
        rule: `forward` (Hugging Face's model, the default), `static` (its static-cache generation) or `deepmind`.
        sliding_window: W ≥ 1.
        past_length: tokens at the front of each row that the KV cache already holds.
        capacity: key columns, if the KV cache is longer than the tokens; nobody sees the columns beyond them.
        position_ids: `(batch, tokens)` or `(1, tokens)` of packed sequences, which start wherever a step is not +1
            and do not see each other. As in Hugging Face only without padding and past. There, the static rule looks
            the blocks of a packed row up at positions, hence in its first sequence; the rule `static` does too.

    Raises:
        InputError: types outside 0…3, shapes that disagree, a window below 1, a past over the tokens or tokens over
            the capacity, padding inside a vision block, or an unknown rule.
    """
    arguments = check_arguments(
        mm_token_type_ids,
        attention_mask=attention_mask,
        rule=rule,
        sliding_window=sliding_window,
        past_length=past_length,
        capacity=capacity,
        position_ids=position_ids,
    )
    runs = find_runs(
        arguments.types, position_ids=arguments.position_ids, blocks_at_positions=arguments.rule == "static"
    )
    padding = None if arguments.valid_keys is None else _measure_padding(arguments.valid_keys)
    return MaskSpecs(
        sliding_attention=_describe(runs, "sliding_attention", arguments, padding),
        full_attention=_describe(runs, "full_attention", arguments, padding),
    )


def build_masks(
    mm_token_type_ids: ArrayLike,
    *,
    attention_mask: ArrayLike | None = None,
    rule: MaskRule = "forward",
    sliding_window: int = SLIDING_WINDOW,
    queries: slice | None = None,
) -> Masks:
    """Build both masks, bool `(batch, 1, queries, keys)`.

    Args:
        mm_token_type_ids: see `describe_masks`, as the following three.
        attention_mask: 0 for padding.
        rule: the rule.
        sliding_window: W.
        queries: the tokens of one prefill call, `slice(past, past + q)`; the keys are then the `past + q` tokens that
            the KV cache holds at its end. None for all tokens.

    Raises:
        InputError: as `describe_masks`; or `queries` is empty, has a step, or ends inside a vision block, whose first
            half would then be computed without the second.
    """
    specs = describe_masks(mm_token_type_ids, attention_mask=attention_mask, rule=rule, sliding_window=sliding_window)
    block_ids, n_tokens = specs.full_attention.block_ids, specs.full_attention.n_tokens
    start, stop, step = (queries or slice(None)).indices(n_tokens)
    if step != 1:
        raise InputError(f"queries is {queries}; a prefill takes consecutive tokens: leave the step out")
    check_queries(start, stop, n_tokens=n_tokens)
    if stop < n_tokens and ((block_ids[:, stop - 1] >= 0) & (block_ids[:, stop - 1] == block_ids[:, stop])).any():
        raise InputError(
            f"queries end at token {stop}, inside a vision block; cut where no block is cut, as "
            "gemma4_mm.core.prefill.chunks.plan_chunks does"
        )
    return specs.rows(start, stop, key_stop=stop)


def to_uint8(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """View a boolean mask as uint8, 1 = attend, without a copy."""
    return mask.view(np.uint8)


def to_additive(
    mask: NDArray[np.bool_], *, dtype: DTypeLike = np.float32, fill: float | None = None
) -> NDArray[np.floating[Any]]:
    """Convert a boolean mask to one that is added to attention scores: 0 = attend, `fill` = do not.

    Args:
        mask: any shape.
        dtype: a numpy float type.
        fill: None for the lowest finite value of `dtype`, as HF's eager attention; `-math.inf` only on request,
            since a row that sees nothing would become NaN in a softmax.

    Raises:
        InputError: `dtype` is no float type, or `fill` is not negative or does not fit into it.
    """
    kind = np.dtype(dtype)
    if kind.kind != "f":
        raise InputError(f"an additive mask cannot be {kind}; choose float16, float32 or float64")
    lowest, highest = float(np.finfo(kind).min), -float(np.finfo(kind).smallest_normal)
    value = lowest if fill is None else float(fill)
    if not (lowest <= value <= highest or value == -np.inf):
        raise InputError(
            f"fill is {fill}; it must be negative and at least {lowest}, the lowest {kind}; leave it out for that"
        )
    return np.where(mask, np.zeros((), kind), np.full((), value, kind))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Padding:
    """Where each row's valid tokens begin and end, int32 `(batch, 1)`; `gaps` are all of them if some lie apart."""

    first: NDArray[np.int32]
    stop: NDArray[np.int32]
    gaps: NDArray[np.bool_] | None


def _measure_padding(valid: NDArray[np.bool_]) -> _Padding:
    n_tokens = valid.shape[1]
    counts = valid.sum(axis=1, keepdims=True)
    first = np.where(counts > 0, valid.argmax(axis=1, keepdims=True), n_tokens)
    stop = n_tokens - valid[:, ::-1].argmax(axis=1, keepdims=True)
    gaps = valid if (counts < stop - first).any() else None
    return _Padding(first=first.astype(np.int32), stop=stop.astype(np.int32), gaps=gaps)


def _describe(runs: TokenRuns, layer: LayerKind, arguments: MaskArguments, padding: _Padding | None) -> AttentionMask:
    # A window longer than the row hides nothing, and one as long cannot overflow.
    window = min(arguments.sliding_window, runs.block_ids.shape[1])
    ranges = RULES[arguments.rule](runs, layer, window)
    starts, stops = ranges.starts, ranges.stops
    if padding is not None:
        starts = np.maximum(starts, padding.first)
        stops = np.maximum(np.minimum(stops, padding.stop), starts)
    return AttentionMask(
        layer=layer,
        rule=arguments.rule,
        sliding_window=arguments.sliding_window,
        past_length=arguments.past_length,
        n_keys=arguments.n_keys,
        block_ids=runs.block_ids,
        starts=starts,
        stops=stops,
        valid_keys=None if padding is None else padding.gaps,
    )
