"""What Hugging Face has no counterpart for: the rules of masks as plain formulas, and the properties of a prefill plan.

Written a second time here, straight from the rules and without the arithmetic of `core`, so that it can judge it.
"""

from collections.abc import Iterator
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.records import Case, Stages
from gemma4_mm.spec import MaskRule

LAYERS: Final = ("sliding", "global")
_VISION: Final = (1, 2)


def add_formula_stages(case: Case, stages: Stages) -> tuple[Stages, frozenset[str]]:
    """Add the stages of a case that the reference has not; returns all of them, and the names of the added ones.

    The mask rules that a release does not have, and `deepmind`, which is not Hugging Face's; the prefill plan.
    """
    if case.kind != "masks":
        return stages, frozenset()
    types, attention = case.inputs["token_types"], case.inputs["attention_mask"]
    added: dict[str, NDArray[Any]] = {}
    for rule in get_args(MaskRule):
        for layer in LAYERS:
            if (name := f"mask_{layer}_{rule}") not in stages:
                added[name] = dense_mask(
                    types, attention, rule=rule, layer=layer, sliding_window=case.options["sliding_window"]
                )
    added["chunk_plan"] = fewest_chunks(types, max_chunk=case.options["max_chunk"])
    return {**stages, **added}, frozenset(added)


def dense_mask(
    types: NDArray[np.int32], attention: NDArray[np.int32], *, rule: str, layer: str, sliding_window: int
) -> NDArray[np.uint8]:
    """Evaluate a rule for every query and key: uint8 `(batch, queries, keys)`, 1 = attend.

    Sources: `forward` and `static` are transformers 5.24's; `deepmind` is google-deepmind/gemma `gm/nn/gemma4`, whose
    window reaches to both sides.
    """
    places = np.arange(types.shape[1])
    q, k = places[:, None], places[None, :]
    causal, near = k <= q, k > q - sliding_window
    blocks = number_blocks(types)
    together = (blocks[:, :, None] == blocks[:, None, :]) & (blocks >= 0)[:, :, None]
    if layer == "global":
        seen = causal | together if rule == "forward" else causal & np.ones_like(together)
    elif rule == "forward":
        seen = (causal & near) | together
    elif rule == "static":
        seen = near & (causal | together)
    else:
        seen = (abs(q - k) < sliding_window) & (causal | together)
    mask: NDArray[np.uint8] = (seen & (attention != 0)[:, None, :]).astype(np.uint8)
    return mask


def number_blocks(types: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number the maximal runs of vision tokens (image or video) of each row from 0; -1 outside: `(batch, tokens)`."""
    vision = np.isin(types, _VISION)
    begins = vision & ~np.pad(vision, ((0, 0), (1, 0)))[:, :-1]
    return np.where(vision, begins.cumsum(axis=1) - 1, -1)


def fewest_chunks(types: NDArray[np.int32], *, max_chunk: int) -> NDArray[np.int32]:
    """Cut each row greedily: int32 `(chunks, 3)` of row, start and stop. No other plan has fewer chunks."""
    return np.array(
        [(row, start, stop) for row in range(len(types)) for start, stop in _cut_row(types[row], max_chunk)], np.int32
    ).reshape(-1, 3)


def find_plan_fault(types: NDArray[np.int32], plan: NDArray[Any], *, max_chunk: int) -> str | None:
    """Say what is wrong with a prefill plan, in words; None if nothing is.

    A plan must cover each row in order without gaps, cut no vision block, keep to `max_chunk` except where a chunk is
    one longer block, and have as few chunks as possible. Where it cuts text is its own choice.
    """
    if plan.ndim != 2 or plan.shape[1] != 3:
        return f"it has shape {plan.shape}; each chunk is (row, start, stop)"
    blocks = number_blocks(types)
    for row in range(len(types)):
        spans = [(int(start), int(stop)) for of_row, start, stop in plan.tolist() if of_row == row]
        place = 0
        for start, stop in spans:
            if start != place or stop <= start:
                return f"row {row}: the chunk [{start}, {stop}) follows token {place}; chunks must tile the row"
            place = stop
            whole = blocks[row, start] >= 0 and (blocks[row, start:stop] == blocks[row, start]).all()
            if stop < types.shape[1] and blocks[row, stop - 1] >= 0 and blocks[row, stop - 1] == blocks[row, stop]:
                first, *_, last = np.flatnonzero(blocks[row] == blocks[row, stop]).tolist()
                return f"row {row}: the chunk [{start}, {stop}) ends inside the vision block [{first}, {last + 1})"
            if stop - start > max_chunk and not whole:
                return f"row {row}: the chunk [{start}, {stop}) has {stop - start} tokens; the limit is {max_chunk}"
        if place != types.shape[1]:
            return f"row {row}: the chunks end at token {place} of {types.shape[1]}"
        if len(spans) > (least := len(list(_cut_row(types[row], max_chunk)))):
            return f"row {row}: {len(spans)} chunks, where {least} would do"
    extra = [row for row, _, _ in plan.tolist() if not 0 <= row < len(types)]
    return f"row {extra[0]} does not exist" if extra else None


def _cut_row(types: NDArray[np.int32], max_chunk: int) -> Iterator[tuple[int, int]]:
    """Spans of one row: as much as fits, back to the last place outside of a block; a longer block goes by itself."""
    blocks, length = number_blocks(types[None])[0], len(types)
    stops: dict[int, int] = {}
    for place in range(length - 1, -1, -1):  # where the block that begins or goes on at each token ends
        goes_on = place + 1 < length and blocks[place] >= 0 and blocks[place] == blocks[place + 1]
        stops[place] = stops[place + 1] if goes_on else place + 1
    start = 0
    while start < length:
        stop = start
        while stop < length and stops[stop] - start <= max_chunk:
            stop = stops[stop]
        if stop == start:
            stop = stops[start]
        yield start, stop
        start = stop
