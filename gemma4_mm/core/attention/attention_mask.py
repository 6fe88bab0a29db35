"""The specification of one attention mask, and its views."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.attention.mask_arguments import check_queries
from gemma4_mm.core.attention.mask_rules import LayerKind
from gemma4_mm.core.attention.stencil import paint_ranges
from gemma4_mm.errors import InputError
from gemma4_mm.spec import MaskRule

# Larger arrays come from the system as zero pages that cost nothing until they are written; smaller ones are recycled
# memory, which is best cleared just before it is painted. The bound is glibc's largest mmap threshold.
_RECYCLED_BYTES: Final = 32 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionMask:
    """Which keys each token of a batch attends to on one kind of layer, in O(n) memory; make it with `describe_masks`.

    Attributes:
        layer: `full_attention` or `sliding_attention`, as in HF's `layer_types`.
        rule: the rule, see `core.attention.mask_rules`.
        sliding_window: W; `full_attention` does not use it.
        past_length: tokens that a KV cache already holds; the queries are the tokens after them.
        n_keys: key columns: the tokens, or the capacity of the KV cache.
        block_ids: int32 `(batch, tokens)`, number of the vision block in its row, -1 outside of blocks.
        starts: int32 `(batch, tokens)`, first key that the token sees as a query.
        stops: int32 `(batch, tokens)`, one past the last; equal to `starts` if it sees none.
        valid_keys: bool `(batch, tokens)` if padding lies between valid tokens, so that it cuts ranges; else None.
    """

    layer: LayerKind
    rule: MaskRule
    sliding_window: int
    past_length: int
    n_keys: int
    block_ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    stops: NDArray[np.int32]
    valid_keys: NDArray[np.bool_] | None

    @property
    def n_tokens(self) -> int:
        """Tokens of a row, cached ones included."""
        return int(self.starts.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of this specification."""
        arrays = (self.block_ids, self.starts, self.stops, self.valid_keys)
        return sum(array.nbytes for array in arrays if array is not None)

    def dense(self) -> NDArray[np.bool_]:
        """All queries after the past: bool `(batch, 1, tokens - past_length, n_keys)`."""
        return self.rows(self.past_length, self.n_tokens)

    def rows(self, start: int, stop: int, *, key_stop: int | None = None) -> NDArray[np.bool_]:
        """Queries `[start, stop)`, counted from the row's first token: bool `(batch, 1, stop - start, n_keys)`.

        Args:
            start: first query.
            stop: one past the last query.
            key_stop: return only the keys `[0, key_stop)`; None for all. Nothing checks that the queries see no key
                beyond; `build_masks` does.

        Raises:
            InputError: the queries are not tokens of this mask, or `key_stop` is not among its keys.
        """
        check_queries(start, stop, n_tokens=self.n_tokens)
        n_keys = self.n_keys if key_stop is None else key_stop
        if not 0 <= n_keys <= self.n_keys:
            raise InputError(f"key_stop is {key_stop}; the mask has {self.n_keys} keys; give a value from 0 to that")
        shape = (len(self.starts), 1, stop - start, n_keys)
        blank = math.prod(shape) > _RECYCLED_BYTES
        mask = np.zeros(shape, bool) if blank else np.empty(shape, bool)
        starts, stops = (np.minimum(ends[:, start:stop], np.int32(n_keys)) for ends in (self.starts, self.stops))
        for row, matrix in enumerate(mask[:, 0]):
            paint_ranges(matrix, starts=starts[row], stops=stops[row], blank=blank)
        if self.valid_keys is not None:
            n_known = min(n_keys, self.n_tokens)
            mask[..., :n_known] &= self.valid_keys[:, None, None, :n_known]
        return mask

    def intervals(self) -> NDArray[np.int32]:
        """Key ranges `[start, stop)` of each query after the past: int32 `(batch, queries, ranges, 2)`.

        `ranges` is 1 if padding lies at the ends of rows; each gap of padding between valid tokens can add one, so
        that a right-padded past under a left-padded prompt gives 3. Unused ranges are at the end and empty, `[0, 0)`.
        """
        starts, stops = self.starts[:, self.past_length :], self.stops[:, self.past_length :]
        if self.valid_keys is None:
            return np.where((stops > starts)[..., None, None], np.stack((starts, stops), axis=-1)[:, :, None], 0)
        return np.stack(_pad_ranges([_cut_ranges(*row) for row in zip(starts, stops, self.valid_keys, strict=True)]))

    def visible(self, q: int, k: int, *, row: int = 0) -> bool:
        """True if query q attends to key k; both counted from the row's first token.

        Raises:
            InputError: there is no such query, key or row.
        """
        check_queries(q, q + 1, n_tokens=self.n_tokens)
        if not (0 <= k < self.n_keys and 0 <= row < len(self.starts)):
            raise InputError(f"no key {k} in row {row}; the mask has {len(self.starts)} rows of {self.n_keys} keys")
        if not self.starts[row, q] <= k < self.stops[row, q]:
            return False
        return self.valid_keys is None or bool(self.valid_keys[row, k])

    def visible_counts(self) -> NDArray[np.int32]:
        """How many keys each query after the past sees: int32 `(batch, queries)`."""
        starts, stops = self.starts[:, self.past_length :], self.stops[:, self.past_length :]
        if self.valid_keys is None:
            return stops - starts
        valid_before = np.zeros((len(starts), self.n_tokens + 1), np.int32)
        np.cumsum(self.valid_keys, axis=1, out=valid_before[:, 1:])
        return np.take_along_axis(valid_before, stops, axis=1) - np.take_along_axis(valid_before, starts, axis=1)


def _cut_ranges(starts: NDArray[np.int32], stops: NDArray[np.int32], valid: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Cut one row's ranges at padding: int32 `(queries, ranges, 2)`."""
    edges = np.flatnonzero(np.diff(valid, prepend=False, append=False)).astype(np.int32)
    run_starts, run_stops = edges[0::2], edges[1::2]
    first = np.searchsorted(run_stops, starts, side="right")  # the first run of valid keys that ends behind the start
    behind = np.searchsorted(run_starts, stops, side="left")  # the first one that begins at the stop or later
    n_ranges = max(1, int((behind - first).max(initial=1)))
    ranges = np.zeros((len(starts), n_ranges, 2), np.int32)
    for i in range(n_ranges):
        used = first + i < behind
        run = (first + i)[used]
        ranges[used, i, 0] = np.maximum(run_starts[run], starts[used])
        ranges[used, i, 1] = np.minimum(run_stops[run], stops[used])
    return ranges


def _pad_ranges(rows: list[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
    n_ranges = max(row.shape[1] for row in rows)
    return [np.pad(row, ((0, 0), (0, n_ranges - row.shape[1]), (0, 0))) for row in rows]
