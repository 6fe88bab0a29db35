"""Where to cut a row: the fewest pieces in which no vision block is cut."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from gemma4_mm.core.attention.blocks import TokenRuns
from gemma4_mm.errors import InputError


class Span(NamedTuple):
    """Tokens `[start, stop)` of a row. What is cut neither begins nor ends inside a vision block."""

    start: int
    stop: int


def cut_greedily(span: Span, *, limit: int, runs: TokenRuns) -> list[Span]:
    """Cut into the fewest spans of at most `limit` tokens: each goes as far as it can.

    That is optimal: after as many cuts, no other plan is further along, and being further along closes no way.

    Args:
        span: what to cut.
        limit: the most tokens of one span, and at least those of every block in `span`.
        runs: of one row.
    """
    edges = [span.start]
    while edges[-1] + limit < span.stop:
        edges.append(int(runs.block_start[0, edges[-1] + limit]))
    return _spans([*edges, span.stop])


def cut_evenly(span: Span, *, limit: int, runs: TokenRuns) -> list[Span]:
    """Cut as `cut_greedily`, but move the cuts so that lengths repeat, as far as that costs no span.

    Each cut may lie anywhere between its greedy place and the earliest place from which the remaining spans still
    reach the end. Within these bounds a length that was used before is preferred, the most recent first.

    Args:
        span: as for `cut_greedily`.
        limit: as for `cut_greedily`.
        runs: as for `cut_greedily`.
    """
    greedy = cut_greedily(span, limit=limit, runs=runs)
    earliest = [span.stop]
    while len(earliest) < len(greedy):
        place = max(earliest[-1] - limit, span.start)
        earliest.append(place if runs.block_start[0, place] == place else int(runs.block_stop[0, place]))
    edges, lengths = [span.start], list[int]()
    for low in reversed(earliest[1:]):
        furthest = int(runs.block_start[0, edges[-1] + limit])
        repeats = (edges[-1] + length for length in lengths)
        cut = next((c for c in repeats if low <= c <= furthest and runs.block_start[0, c] == c), furthest)
        lengths = [cut - edges[-1], *(length for length in lengths if length != cut - edges[-1])]
        edges.append(cut)
    even = _spans([*edges, span.stop])
    return min(greedy, even, key=lambda spans: len({part.stop - part.start for part in spans}))


def cut_exactly(span: Span, *, lengths: Sequence[int], runs: TokenRuns) -> list[Span]:
    """Cut into the fewest spans whose lengths are all in `lengths`.

    A breadth-first search over the tokens at which a cut is legal; it visits each of them once.

    Args:
        span: what to cut.
        lengths: the allowed lengths.
        runs: of one row.

    Raises:
        InputError: no sum of allowed lengths reaches the end by legal cuts.
    """
    n_tokens = span.stop - span.start
    legal = np.ones(n_tokens + 1, bool)
    legal[:-1] = runs.block_start[0, span.start : span.stop] == np.arange(span.start, span.stop)
    arrived_by = np.zeros(n_tokens + 1, np.int64)  # length of the span that first ended here; 0 where none did
    frontier = np.zeros(1, np.int64)
    while len(frontier) and not arrived_by[-1]:
        reached = []
        for length in sorted(lengths, reverse=True):
            places = frontier[frontier + length <= n_tokens] + length
            places = places[legal[places] & (arrived_by[places] == 0)]
            arrived_by[places] = length
            reached.append(places)
        frontier = np.concatenate(reached)
    if not arrived_by[-1]:
        raise InputError(
            f"tokens [{span.start}, {span.stop}) cannot be cut into chunks of exactly {sorted(lengths)} tokens without "
            "cutting a vision block; pass pad=True, or allow more lengths, e.g. 1"
        )
    edges = [n_tokens]
    while edges[-1]:
        edges.append(edges[-1] - int(arrived_by[edges[-1]]))
    return _spans([span.start + edge for edge in reversed(edges)])


def _spans(edges: Sequence[int]) -> list[Span]:
    return [Span(*pair) for pair in pairwise(edges)]
