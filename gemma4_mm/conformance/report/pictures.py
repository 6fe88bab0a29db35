"""Crops of what differs, drawn: expected, actual, and the difference where the eye finds it."""

import base64
import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gemma4_mm.conformance.records import Crop
from gemma4_mm.core.attention.kinds import KIND_COLOURS

_SIDE_PX: Final = 288  # about so large are pictures shown
_EDGE_PX: Final = 6  # strips that tell the kinds of queries and keys
_GAP_PX: Final = 3
_GRID_CELL_PX: Final = 5  # cells of at least this size have lines between them, and marks in them
_UNSEEN: Final = (255, 255, 255)
_SEEN: Final = (33, 113, 181)  # where the keys' kinds are not known
_BOTH: Final = (186, 200, 214)
_LEAKED: Final = (200, 30, 45)  # attended to, but must not be
_MISSED: Final = (230, 112, 20)  # must be attended to, and is not
_LINE: Final = (214, 218, 224)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a crop.

    Attributes:
        title: what it shows, in a word or two.
        description: what is to be seen, in a sentence, for those who do not see it.
        png: the file.
        width_px: width to show it at, a multiple of its own.
        height_px: height to show it at.
    """

    title: str
    description: str
    png: bytes
    width_px: int
    height_px: int

    @property
    def data_uri(self) -> str:
        """The picture as a `data:` URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def draw_crop(crop: Crop) -> tuple[Picture, Picture, Picture]:
    """Draw what was expected, what came, and where they differ; masks are told by having two axes."""
    return _draw_mask(crop) if crop.expected.ndim == 2 else _draw_pixels(crop)


def place(crop: Crop) -> str:
    """Where a crop is from, e.g. "rows 0 to 31, columns 64 to 95 of frame 3"."""
    rows, columns = ("queries", "keys") if crop.expected.ndim == 2 else ("rows", "columns")
    (top, left), (height, width) = crop.origin, crop.expected.shape[:2]
    of = f" of {crop.where}" if crop.where else ""
    return f"{rows} {top} to {top + height - 1}, {columns} {left} to {left + width - 1}{of}"


def _draw_pixels(crop: Crop) -> tuple[Picture, Picture, Picture]:
    distance = np.abs(crop.expected.astype(np.int16) - crop.actual)
    gain = 255 // max(int(distance.max()), 1)
    n_different = int((distance > 0).any(axis=2).sum())
    title = f"difference ×{gain}" if n_different else "difference: below one level"
    where = place(crop)
    return (
        _picture("expected", f"The reference's pixels, {where}", crop.expected),
        _picture("actual", f"The subject's pixels, {where}", crop.actual),
        _picture(
            title,
            f"Distances amplified {gain} times: {n_different} of {distance[..., 0].size} pixels differ, by at most "
            f"{distance.max()}",
            _lift(distance * gain),
        ),
    )


def _lift(distance: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Add white, so that a difference in blue alone is seen on black."""
    strongest = distance.max(axis=2, keepdims=True)
    lifted: NDArray[np.uint8] = np.maximum(distance, strongest // 2).astype(np.uint8)
    return lifted


def _draw_mask(crop: Crop) -> tuple[Picture, Picture, Picture]:
    expected, actual = crop.expected != 0, crop.actual != 0
    cell_px = max(1, _SIDE_PX // max(expected.shape))
    leaked, missed = actual & ~expected, expected & ~actual
    difference = np.where(expected[..., None], _BOTH, _UNSEEN).astype(np.uint8)
    difference[leaked], difference[missed] = _LEAKED, _MISSED
    painted = _paint_cells(difference, cell_px)
    if cell_px >= _GRID_CELL_PX:
        _mark(painted, leaked, cell_px, _cross(cell_px))
        _mark(painted, missed, cell_px, _bar(cell_px))
    where = place(crop)
    colours = np.array(_SEEN) if crop.kinds is None else KIND_COLOURS[crop.kinds[1]]
    masks = [
        _with_edges(_paint_cells(np.where(mask[..., None], colours, _UNSEEN).astype(np.uint8), cell_px), crop, cell_px)
        for mask in (expected, actual)
    ]
    return (
        _picture("expected", f"The reference's mask, {where}; coloured cells are attended to", masks[0]),
        _picture("actual", f"The subject's mask, {where}; coloured cells are attended to", masks[1]),
        _picture(
            "difference",
            f"{leaked.sum()} cells are attended to and must not be (red, ×), {missed.sum()} are not attended to and "
            "must be (orange, −); gray is attended to by both",
            _with_edges(painted, crop, cell_px),
        ),
    )


def _with_edges(painted: NDArray[np.uint8], crop: Crop, cell_px: int) -> NDArray[np.uint8]:
    """Add what kind of token each query and each key is: a strip at the left, and one at the top."""
    if crop.kinds is None:
        return painted
    queries, keys = (KIND_COLOURS.astype(np.uint8)[kinds].repeat(cell_px, axis=0) for kinds in crop.kinds)
    margin = _EDGE_PX + _GAP_PX
    framed = np.full((painted.shape[0] + margin, painted.shape[1] + margin, 3), _UNSEEN, np.uint8)
    framed[margin:, margin:] = painted
    framed[margin:, :_EDGE_PX] = queries[:, None]
    framed[:_EDGE_PX, margin:] = keys[None]
    return framed


def _paint_cells(colours: NDArray[np.uint8], cell_px: int) -> NDArray[np.uint8]:
    """Enlarge uint8 `(rows, columns, 3)` to cells, with lines between them where they are large enough."""
    painted = colours.repeat(cell_px, axis=0).repeat(cell_px, axis=1)
    if cell_px >= _GRID_CELL_PX:
        painted[::cell_px] = painted[:, ::cell_px] = _LINE
    return painted


def _mark(painted: NDArray[np.uint8], cells: NDArray[np.bool_], cell_px: int, mark: NDArray[np.bool_]) -> None:
    """Draw a white mark in each of the cells, so that colour is not all that tells them apart."""
    n_rows, n_columns = cells.shape
    blocks = painted.reshape(n_rows, cell_px, n_columns, cell_px, 3)
    shown = cells[:, None, :, None] & mark[None, :, None, :]
    blocks[shown] = 255


def _cross(cell_px: int) -> NDArray[np.bool_]:
    mark, inside = np.zeros((cell_px, cell_px), bool), np.arange(2, cell_px - 1)
    mark[inside, inside] = mark[inside, inside[::-1]] = True
    return mark


def _bar(cell_px: int) -> NDArray[np.bool_]:
    mark = np.zeros((cell_px, cell_px), bool)
    mark[cell_px // 2, 2 : cell_px - 1] = True
    return mark


def _picture(title: str, description: str, rgb: NDArray[np.uint8]) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, "PNG", optimize=True)
    height, width = rgb.shape[:2]
    scale = max(1, _SIDE_PX // max(height, width))
    return Picture(
        title=title, description=description, png=buffer.getvalue(), width_px=width * scale, height_px=height * scale
    )
