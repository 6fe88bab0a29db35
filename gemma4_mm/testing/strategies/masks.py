"""Token layouts for attention masks: rows of typed tokens, padding, pasts, static caches and packed sequences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from gemma4_mm.spec import TYPE_AUDIO, TYPE_IMAGE, TYPE_TEXT, TYPE_VIDEO

RunKind = Literal["text", "image", "video", "audio"]
_TYPES: Final = {"text": TYPE_TEXT, "image": TYPE_IMAGE, "video": TYPE_VIDEO, "audio": TYPE_AUDIO}
_KINDS: Final[tuple[RunKind, ...]] = ("text", "image", "video", "audio", "text", "image")  # some are drawn more often


@dataclass(frozen=True, kw_only=True)
class MaskLayout:
    """What a mask is made from: the tokens of a batch, and the cache that holds the first of them.

    Attributes:
        types: int64 `(batch, length)`, `mm_token_type_ids`: 0 text, 1 image, 2 video, 3 audio.
        window: keys that a sliding layer sees, the query's own included.
        attention: int64 `(batch, length)`, 1 = token, 0 = padding; None for tokens only.
        past: tokens at the start that are in the cache already; the queries are the others.
        capacity: keys of a static cache, at least `length`; None without one.
        positions: int64 `(1 or batch, length)`, starting anew at each packed sequence; None for one sequence a row.
        cache: what a reference with caches has to be given.
    """

    types: NDArray[np.int64]
    window: int
    attention: NDArray[np.int64] | None = None
    past: int = 0
    capacity: int | None = None
    positions: NDArray[np.int64] | None = None
    cache: Literal["none", "dynamic", "static"] = "none"

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `gemma4_mm.core.attention.masks.describe_masks`."""
        return {
            "mm_token_type_ids": self.types,
            "attention_mask": self.attention,
            "sliding_window": self.window,
            "past_length": self.past,
            "capacity": self.capacity,
            "position_ids": self.positions,
        }


def token_runs(
    *, kinds: Sequence[RunKind] = _KINDS, max_runs: int = 7, max_tokens: int = 14
) -> st.SearchStrategy[list[tuple[RunKind, int]]]:
    """Runs of tokens of one kind, `(kind, tokens)`, in any order; equal and different vision runs may touch."""
    return st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, max_tokens)), min_size=1, max_size=max_runs)


def token_rows(*, max_runs: int = 7, max_tokens: int = 14) -> st.SearchStrategy[NDArray[np.int64]]:
    """Token types of one row, int64 `(length,)`; see `token_runs`."""

    def spread(runs: Iterable[tuple[RunKind, int]]) -> NDArray[np.int64]:
        return np.repeat([_TYPES[kind] for kind, _ in runs], [n_tokens for _, n_tokens in runs])

    return token_runs(max_runs=max_runs, max_tokens=max_tokens).map(spread)


@st.composite
def padded_rows(
    draw: st.DrawFn, *, max_runs: int = 7, max_tokens: int = 14
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token types and attention of one row, int64 `(length,)` each; some text tokens anywhere may be padding."""
    types = draw(token_rows(max_runs=max_runs, max_tokens=max_tokens))
    hidden = np.random.default_rng(draw(st.integers(0, 99))).random(len(types)) < draw(st.sampled_from([0, 0.3]))
    return types, np.where((types == TYPE_TEXT) & hidden, 0, 1)


def windows() -> st.SearchStrategy[int]:
    """Sliding windows from 1 to 2048: short ones that blocks exceed, and those of real models with their neighbours."""
    return st.one_of(st.integers(1, 24), st.integers(1, 2048), st.sampled_from([1, 2, 1023, 1024, 2048]))


@st.composite
def mask_layouts(draw: st.DrawFn) -> MaskLayout:
    """One to three rows, without a cache, padded, after a past, in a static cache, or packed."""
    rows = draw(st.lists(token_rows(), min_size=1, max_size=3))
    length = max(len(row) for row in rows)
    types, attention = np.zeros((2, len(rows), length), np.int64)
    for i, row in enumerate(rows):
        start = (length - len(row)) * draw(st.integers(0, 1))  # left or right padding, row by row
        types[i, start : start + len(row)], attention[i, start : start + len(row)] = row, 1
    if draw(st.booleans()):  # padding between tokens, as a right-padded past under new tokens leaves it
        text = types == TYPE_TEXT
        attention[text & (np.random.default_rng(draw(st.integers(0, 99))).random(types.shape) < 0.2)] = 0
    kept = None if draw(st.booleans()) else attention
    case = draw(st.sampled_from(["none", "none", "dynamic", "static", "packed"]))
    window = draw(windows())
    if case == "packed":
        starts = draw(st.lists(st.integers(0, length - 1), max_size=3))
        n_rows = draw(st.sampled_from([1, len(rows)]))
        return MaskLayout(types=types, window=window, positions=np.repeat([_pack(length, starts)], n_rows, axis=0))
    if case == "none":
        return MaskLayout(types=types, window=window, attention=kept)
    past = draw(st.integers(0, length - 1))
    if case == "dynamic":
        return MaskLayout(types=types, window=window, attention=kept, past=past, cache="dynamic")
    capacity = length + draw(st.integers(0, 9))
    return MaskLayout(types=types, window=window, attention=kept, past=past, capacity=capacity, cache="static")


def _pack(length: int, starts: Iterable[int]) -> NDArray[np.int64]:
    """Positions of sequences that begin at 0 and at `starts`."""
    positions = np.arange(length)
    for start in sorted(starts):
        positions[start:] = np.arange(length - start)
    return positions
