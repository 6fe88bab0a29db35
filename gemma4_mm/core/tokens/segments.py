"""Segments: what each token of a padded row is, and the invariants that tie tokens to tensors."""

from collections.abc import Iterator, Mapping
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.tokens.placeholders import Expansion
from gemma4_mm.errors import InvariantError
from gemma4_mm.inputs import Segment
from gemma4_mm.spec import TYPE_AUDIO, TYPE_IMAGE, TYPE_TEXT, TYPE_VIDEO, MediaKind

_TYPES: Final[Mapping[str, int]] = {"image": TYPE_IMAGE, "video": TYPE_VIDEO, "audio": TYPE_AUDIO}


def build_segments(
    expansion: Expansion, *, row: int, padding: int, side: Literal["left", "right"]
) -> tuple[Segment, ...]:
    """Tile one padded row with segments, in order, without gaps.

    A row `pad pad text boi image image eoi text` gives padding [0, 2), text [2, 4), image [4, 6), text [6, 8).
    An item with no soft tokens (an empty audio) has an empty segment at its place.

    Args:
        expansion: the row's tokens before padding.
        row: row of the batch.
        padding: padding tokens of the row.
        side: `left` or `right`, where the padding is.
    """
    before, after = (padding, 0) if side == "left" else (0, padding)
    return tuple(_tile(expansion, row=row, before=before, after=after))


def _tile(expansion: Expansion, *, row: int, before: int, after: int) -> Iterator[Segment]:
    if before:
        yield Segment(kind="padding", row=row, start=0, stop=before)
    place, end = before, before + len(expansion.ids)
    for run, start in zip(expansion.runs, (expansion.starts + before).tolist(), strict=True):
        if start > place:
            yield Segment(kind="text", row=row, start=place, stop=start)
        place = start + run.n_tokens
        yield Segment(kind=run.kind, row=row, start=start, stop=place, item=run.item, frame=run.frame, grid=run.grid)
    if end > place:
        yield Segment(kind="text", row=row, start=place, stop=end)
    if after:
        yield Segment(kind="padding", row=row, start=end, stop=end + after)


def check_segments(
    segments: tuple[Segment, ...], *, mm_token_type_ids: NDArray[np.int64], valid_rows: Mapping[MediaKind, list[int]]
) -> None:
    """Check that segments cover each row and that every item has as many soft tokens as valid tensor rows.

    Args:
        segments: of the whole batch, row by row.
        mm_token_type_ids: int64 `(batch, length)`.
        valid_rows: per kind, the valid tensor rows of each item (all frames of a video together).

    Raises:
        InvariantError: they disagree, which is a bug of this package.
    """
    counts: dict[str, list[int]] = {kind: [0] * len(rows) for kind, rows in valid_rows.items()}
    n_rows, length = mm_token_type_ids.shape
    ends = [0] * n_rows
    for segment in segments:
        if segment.start != ends[segment.row]:
            raise InvariantError(f"{segment} does not start at token {ends[segment.row]}; please report this bug")
        ends[segment.row] = segment.stop
        types = mm_token_type_ids[segment.row, segment.start : segment.stop]
        if (types != _TYPES.get(segment.kind, TYPE_TEXT)).any():
            raise InvariantError(f"{segment} covers tokens of another type; please report this bug")
        if segment.item is not None:
            counts[segment.kind][segment.item] += segment.n_tokens
    if ends != [length] * n_rows:
        raise InvariantError(f"the segments of rows of {length} tokens end at {ends}; please report this bug")
    if counts != valid_rows:
        raise InvariantError(f"soft tokens per item {counts} ≠ valid tensor rows {valid_rows}; please report this bug")
