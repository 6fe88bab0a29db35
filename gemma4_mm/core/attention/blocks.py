"""Vision blocks and packed sequences: the runs of tokens that the attention rules are written in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.spec import TYPE_IMAGE, TYPE_VIDEO


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenRuns:
    """The runs that each token lies in; every array is int32 `(batch, length)`.

    Six tokens `a I I b V c` (I image, V video) are drawn under each attribute.

    Attributes:
        block_ids: number of the token's vision block in its row, -1 outside of blocks: `-1 0 0 -1 1 -1`.
        block_start: first token of its block; outside of blocks the token itself: `0 1 1 3 4 5`.
        block_stop: one past the last token of its block: `1 3 3 4 5 6`.
        sequence_start: first token of its packed sequence; 0 where nothing is packed: `0 0 0 0 0 0`.
    """

    block_ids: NDArray[np.int32]
    block_start: NDArray[np.int32]
    block_stop: NDArray[np.int32]
    sequence_start: NDArray[np.int32]


def find_runs(
    types: NDArray[np.integer], *, position_ids: NDArray[np.integer] | None = None, blocks_at_positions: bool = False
) -> TokenRuns:
    """Find the vision blocks (maximal runs of types 1 and 2) and, from positions, the packed sequences.

    Two vision items with no token between them are one block, audio is in none, and a block ends where its packed
    sequence does. Source: transformers 5.24 `get_block_sequence_ids_for_mask` and `find_packed_sequence_indices`.

    Args:
        types: `mm_token_type_ids`, `(batch, length)`.
        position_ids: `(batch, length)`; a step other than +1 starts a new packed sequence. None: nothing is packed.
        blocks_at_positions: in a packed batch, look a token's block up at its *position* and not at its place, as
            Hugging Face's static rule does.
    """
    batch, length = types.shape
    block_ids = _number_blocks(is_vision(types))
    breaks = None if position_ids is None else _sequence_breaks(position_ids)
    ids = block_ids
    sequence_start = np.zeros((batch, length), np.int32)
    if breaks is not None and position_ids is not None:
        places = np.arange(length, dtype=np.int32)
        sequence_start = np.maximum.accumulate(np.where(breaks, places, np.int32(0)), axis=1)
        if blocks_at_positions:
            ids = np.take_along_axis(block_ids, position_ids.astype(np.int64), axis=1)
    start, stop = _bound_runs(ids, breaks)
    return TokenRuns(block_ids=block_ids, block_start=start, block_stop=stop, sequence_start=sequence_start)


def is_vision(types: NDArray[np.integer]) -> NDArray[np.bool_]:
    """True where a token belongs to a vision block; same shape as `types`."""
    vision: NDArray[np.bool_] = (types == TYPE_IMAGE) | (types == TYPE_VIDEO)
    return vision


def is_packed(position_ids: NDArray[np.integer]) -> bool:
    """True if any row of `position_ids` holds more than one sequence."""
    return _sequence_breaks(position_ids) is not None


def _number_blocks(vision: NDArray[np.bool_]) -> NDArray[np.int32]:
    first = vision.copy()
    first[:, 1:] &= ~vision[:, :-1]
    ids = np.cumsum(first, axis=1, dtype=np.int32)
    ids -= 1
    ids[~vision] = -1
    return ids


def _sequence_breaks(position_ids: NDArray[np.integer]) -> NDArray[np.bool_] | None:
    """True at the first token of each packed sequence but a row's first; None if every row is one sequence."""
    breaks = np.zeros(position_ids.shape, bool)
    np.not_equal(position_ids[:, 1:], position_ids[:, :-1] + 1, out=breaks[:, 1:])
    return breaks if breaks.any() else None


def _bound_runs(
    ids: NDArray[np.int32], breaks: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Start and stop of each token's run of one id; a token without an id is a run by itself."""
    length = ids.shape[1]
    first = np.ones(ids.shape, bool)
    np.not_equal(ids[:, 1:], ids[:, :-1], out=first[:, 1:])
    if breaks is not None:
        first |= breaks
    edges = np.flatnonzero(first)
    lengths = np.diff(edges, append=ids.size)
    starts = (edges % length).astype(np.int32)
    places = np.arange(length, dtype=np.int32)
    outside = ids < 0
    start = np.where(outside, places, np.repeat(starts, lengths).reshape(ids.shape))
    stop = np.where(outside, places + 1, np.repeat(starts + lengths.astype(np.int32), lengths).reshape(ids.shape))
    return start, stop
