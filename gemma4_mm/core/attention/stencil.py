"""Painting ranges of keys into a boolean matrix, at about the speed of filling it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_SLAB: Final = 512  # most rows of a group: its two triangles stay small beside what is filled


def paint_ranges(
    out: NDArray[np.bool_], *, starts: NDArray[np.int32], stops: NDArray[np.int32], blank: bool = False
) -> None:
    """Set row i of `out` to True in `[starts[i], stops[i])` and to False elsewhere, for every row.

    Rows of attention masks come in groups in which each end of the range either stays or moves by one key per row. In
    a group the keys that all rows see are one rectangle; a triangle on its left or right is copied from a stencil,
    which holds every triangle in 2·n bytes: row h is `k < h`, and row h + 1 is the same memory read one byte earlier.

    Args:
        out: `(queries, keys)`, of any content.
        starts: int32 `(queries,)`, first key of each row.
        stops: int32 `(queries,)`, one past the last key, at most `keys`; a row with `stops ≤ starts` is all False.
        blank: `out` is all False already.
    """
    n_keys = out.shape[1]
    below = _staircase(n_keys, lower=True)
    from_on = _staircase(n_keys, lower=False)
    edges = _group_edges(starts, stops)
    first, last = edges[:-1], edges[1:] - 1
    groups = (edges[:-1], edges[1:], starts[first], stops[first], starts[last], stops[last])
    for top, bottom, start, stop, last_start, last_stop in zip(*(ends.tolist() for ends in groups), strict=True):
        rows, height = out[top:bottom], bottom - top
        overlap = stop - last_start  # keys that all rows of the group see
        inverted = not blank and 2 * overlap > n_keys  # fewer bytes are written twice if True is the background
        if not blank:
            rows[...] = inverted
        if stop <= start:
            continue
        if overlap < 0:
            rows[:, start:last_stop] = _band(n_keys, width=stop - start)[start : start + height, start:last_stop]
            continue
        if inverted:
            rows[:, :start] = False
            rows[:, last_stop:] = False
        else:
            rows[:, last_start:stop] = True
        if last_start > start:
            rows[:, start:last_start] = from_on[start : start + height, start:last_start]
        if last_stop > stop:
            rows[:, stop:last_stop] = below[stop : stop + height, stop:last_stop]


def _staircase(n_keys: int, *, lower: bool) -> NDArray[np.bool_]:
    """View `(n_keys + 1, n_keys)`: row h is `k < h` if lower, else `k ≥ h`."""
    line = np.zeros(2 * n_keys, bool)
    line[:n_keys] = lower
    line[n_keys:] = not lower
    return _sheared(line, n_keys)


def _band(n_keys: int, *, width: int) -> NDArray[np.bool_]:
    """View `(n_keys + 1, n_keys)`: row h is `h ≤ k < h + width`."""
    line = np.zeros(2 * n_keys, bool)
    line[n_keys : n_keys + width] = True
    return _sheared(line, n_keys)


def _sheared(line: NDArray[np.bool_], n_keys: int) -> NDArray[np.bool_]:
    """Row h, column k of the view is `line[n_keys - h + k]`."""
    return np.ndarray((n_keys + 1, n_keys), bool, line, n_keys, (-1, 1))


def _group_edges(starts: NDArray[np.int32], stops: NDArray[np.int32]) -> NDArray[np.int64]:
    """Row numbers `0 … queries` where groups begin and end; within a group each end has one step, 0 or 1.

    Groups of empty rows stay apart from others, and no group is longer than a slab.
    """
    start_steps, stop_steps = starts[1:] - starts[:-1], stops[1:] - stops[:-1]
    irregular = ((start_steps | stop_steps) & ~1) != 0
    empty = stops <= starts
    irregular |= empty[1:] != empty[:-1]
    steps = np.where(irregular, -1, start_steps * 2 + stop_steps)
    broken = irregular
    broken[1:] |= (steps[1:] != steps[:-1]) & (steps[:-1] >= 0)
    broken[_SLAB - 1 :: _SLAB] = True
    return np.concatenate(([0], np.flatnonzero(broken) + 1, [len(starts)]))
