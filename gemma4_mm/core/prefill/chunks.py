"""Prefill in chunks that cut no vision block: what each call of `prefill_multimodal` takes.

    for chunk in plan_chunks(inputs.segments, max_chunk=512, capacity=4096):
        masks = chunk.masks()
        run(input_ids[:, chunk.tokens], chunk.position_ids, masks.mask_sliding, masks.mask_global, …)

A cut inside a vision block changes the result, since the block's first half is then computed without its second half.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.attention.blocks import find_runs
from gemma4_mm.core.prefill.chunk import Chunk, EmbeddingSlice, PromptRow
from gemma4_mm.core.prefill.cuts import Span, cut_evenly, cut_exactly, cut_greedily
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import Segment, SegmentKind
from gemma4_mm.spec import SLIDING_WINDOW, TYPE_AUDIO, TYPE_IMAGE, TYPE_TEXT, TYPE_VIDEO, MaskRule

__all__ = ["Chunk", "EmbeddingSlice", "Oversize", "plan_chunks"]

Oversize = Literal["error", "own_chunk"]
_TYPES: Final[dict[SegmentKind, int]] = {
    "text": TYPE_TEXT,
    "padding": TYPE_TEXT,
    "image": TYPE_IMAGE,
    "video": TYPE_VIDEO,
    "audio": TYPE_AUDIO,
}


def plan_chunks(
    segments: Sequence[Segment],
    *,
    max_chunk: int,
    capacity: int,
    row: int = 0,
    past_length: int = 0,
    allowed_lengths: Collection[int] | None = None,
    pad: bool = False,
    oversize: Oversize = "error",
    rule: MaskRule = "forward",
    sliding_window: int = SLIDING_WINDOW,
) -> tuple[Chunk, ...]:
    """Cut a row's prefill into the fewest chunks in which no vision block is cut.

    Args:
        segments: of the whole batch, e.g. `ModelInputs.segments`.
        max_chunk: the most tokens of one call, padding included.
        capacity: tokens that the KV cache can hold.
        row: which row of the batch.
        past_length: tokens of the row that are in the KV cache already.
        allowed_lengths: lengths that a call may have, each a compiled shape; None for any up to `max_chunk`.
        pad: let a chunk be shorter than its allowed length, which is then reached with padding.
        oversize: what becomes of a vision block longer than `max_chunk` or all allowed lengths: an error, or
            a chunk by itself, of that block's length.
        rule: mask rule of the chunks' masks.
        sliding_window: W of the chunks' masks.

    Raises:
        InputError: the prompt does not fit into the capacity, the past ends inside a vision block, a block is too
            long, or the allowed lengths do not add up without padding.
    """
    prompt = _read_row(segments, row=row, rule=rule, sliding_window=sliding_window)
    n_tokens = prompt.types.shape[1]
    lengths = _check_lengths(allowed_lengths, max_chunk=max_chunk, pad=pad)
    _check_room(n_tokens, past_length=past_length, capacity=capacity)
    runs = find_runs(prompt.types)
    block_start, block_stop = runs.block_start[0], runs.block_stop[0]
    if block_start[past_length] < past_length:
        raise InputError(
            f"the past ends at token {past_length}, inside the vision block [{block_start[past_length]}, "
            f"{block_stop[past_length]}); crop the KV cache to the block's start"
        )
    limit = lengths[-1] if lengths else max_chunk
    spans: list[Span] = []
    for piece in _split_at_oversize(block_start, block_stop, past_length=past_length, limit=limit):
        if piece.oversize and oversize == "error":
            raise InputError(
                f"the vision block at tokens [{piece.start}, {piece.stop}) has {piece.stop - piece.start} tokens; a "
                f"chunk has at most {limit}; allow longer chunks, or pass oversize='own_chunk'"
            )
        if piece.oversize:
            spans.append(Span(piece.start, piece.stop))
        elif not lengths:
            spans += cut_evenly(Span(piece.start, piece.stop), limit=limit, runs=runs)
        elif pad:
            spans += cut_greedily(Span(piece.start, piece.stop), limit=limit, runs=runs)
        else:
            spans += cut_exactly(Span(piece.start, piece.stop), lengths=lengths, runs=runs)
    own = [segment for segment in segments if segment.row == row and segment.item is not None]
    return tuple(_make_chunk(span, lengths=lengths, capacity=capacity, segments=own, row=prompt) for span in spans)


@dataclass(frozen=True, kw_only=True)
class _Piece:
    start: int
    stop: int
    oversize: bool


def _read_row(segments: Sequence[Segment], *, row: int, rule: MaskRule, sliding_window: int) -> PromptRow:
    own = [segment for segment in segments if segment.row == row]
    if not own:
        raise InputError(f"no segment lies in row {row}; choose one of {sorted({s.row for s in segments})}")
    lengths = [segment.n_tokens for segment in own]
    return PromptRow(
        types=np.repeat(np.array([_TYPES[segment.kind] for segment in own], np.int64), lengths)[None],
        valid=np.repeat(np.array([segment.kind != "padding" for segment in own]), lengths)[None],
        rule=rule,
        sliding_window=sliding_window,
    )


def _check_lengths(allowed_lengths: Collection[int] | None, *, max_chunk: int, pad: bool) -> list[int]:
    """The allowed lengths in ascending order; empty if any length is allowed."""
    if max_chunk < 1:
        raise InputError(f"max_chunk is {max_chunk}; it must be at least 1")
    if allowed_lengths is None:
        if pad:
            raise InputError("pad=True needs allowed_lengths to pad to; give them, or leave pad out")
        return []
    lengths = sorted(set(allowed_lengths))
    if not lengths or lengths[0] < 1 or lengths[-1] > max_chunk:
        raise InputError(f"allowed_lengths are {lengths}; give at least one, each from 1 to max_chunk, {max_chunk}")
    return lengths


def _check_room(n_tokens: int, *, past_length: int, capacity: int) -> None:
    if not 0 <= past_length < n_tokens:
        raise InputError(f"past_length is {past_length}; it must be from 0 to {n_tokens - 1}, below the row's tokens")
    if n_tokens > capacity:
        raise InputError(
            f"the row has {n_tokens} tokens; the KV cache holds {capacity}; shorten the prompt or use a larger cache"
        )


def _split_at_oversize(
    block_start: NDArray[np.int32], block_stop: NDArray[np.int32], *, past_length: int, limit: int
) -> Iterator[_Piece]:
    """Tile the tokens after the past with the blocks longer than `limit` and what lies between them."""
    place = past_length
    for start in np.unique(block_start[block_stop - block_start > limit]).tolist():
        if start < past_length:
            continue
        if start > place:
            yield _Piece(start=place, stop=start, oversize=False)
        place = int(block_stop[start])
        yield _Piece(start=start, stop=place, oversize=True)
    if place < len(block_start):
        yield _Piece(start=place, stop=len(block_start), oversize=False)


def _make_chunk(
    span: Span, *, lengths: Sequence[int], capacity: int, segments: Sequence[Segment], row: PromptRow
) -> Chunk:
    n_tokens = span.stop - span.start
    padding = next((length for length in lengths if length >= n_tokens), n_tokens) - n_tokens
    if span.stop + padding > capacity:
        raise InputError(
            f"the chunk of tokens [{span.start}, {span.stop}) and its {padding} padding tokens end at "
            f"{span.stop + padding}; the KV cache holds {capacity}; allow a shorter length or use a larger cache"
        )
    return Chunk(
        tokens=slice(span.start, span.stop),
        padding=padding,
        embeddings=tuple(_slice_embeddings(segments, span)),
        row=row,
    )


def _slice_embeddings(segments: Sequence[Segment], span: Span) -> Iterator[EmbeddingSlice]:
    first = bisect_right(segments, span.start, key=lambda segment: segment.stop)
    behind = bisect_left(segments, span.stop, key=lambda segment: segment.start)
    for segment in segments[first:behind]:
        start, stop = max(segment.start, span.start), min(segment.stop, span.stop)
        if start < stop and segment.item is not None and segment.kind != "text" and segment.kind != "padding":
            yield EmbeddingSlice(
                kind=segment.kind,
                item=segment.item,
                frame=segment.frame,
                rows=slice(start - segment.start, stop - segment.start),
                tokens=slice(start - span.start, stop - span.start),
            )
