"""Masks as a picture: both side by side, scaled to a fixed size, keys coloured by kind, with a legend."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gemma4_mm.cli.mask_report import LAYERS
from gemma4_mm.core.attention.blocks import find_runs
from gemma4_mm.core.attention.kinds import KIND_COLOURS, PADDING_KIND
from gemma4_mm.core.attention.masks import AttentionMask, MaskSpecs
from gemma4_mm.errors import InputError

_SIDE_PX: Final = 720
_MARGIN_PX: Final = 24
_LINE_PX: Final = 18
_SAMPLED_QUERIES: Final = 16  # per row of pixels; keys are counted exactly
BLOCK_COLOUR: Final = np.array([230, 112, 20], np.float32)  # query and key in one vision block
_LEGEND: Final = (
    ("text key", KIND_COLOURS[0]),
    ("image key", KIND_COLOURS[1]),
    ("video key", KIND_COLOURS[2]),
    ("audio key", KIND_COLOURS[3]),
    ("key in the query's own vision block", BLOCK_COLOUR),
)


def draw_picture(specs: MaskSpecs, kinds: NDArray[np.int64], path: Path) -> None:
    """Write both masks of one row to an image file; queries run down, keys run right.

    Args:
        specs: of one row.
        kinds: int64 `(tokens,)`, see `token_kinds`.
        path: a `.png`, or another format that Pillow writes.

    Raises:
        InputError: the file cannot be written.
    """
    size = (2 * _SIDE_PX + 3 * _MARGIN_PX, _SIDE_PX + 3 * _MARGIN_PX + (len(_LEGEND) + 1) * _LINE_PX)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, layer in enumerate(LAYERS):
        mask = getattr(specs, layer)
        left, top = _MARGIN_PX + column * (_SIDE_PX + _MARGIN_PX), _MARGIN_PX + _LINE_PX
        window = f", W = {mask.sliding_window}" if layer == "sliding_attention" else ""
        draw.text((left, _MARGIN_PX // 2), f"{layer}: {mask.rule}{window}, {mask.n_tokens} tokens", fill="black")
        picture = Image.fromarray(paint_mask(mask, kinds, side_px=_SIDE_PX))
        canvas.paste(picture.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.NEAREST), (left, top))
        draw.rectangle((left - 1, top - 1, left + _SIDE_PX, top + _SIDE_PX), outline="black")
    draw.text(
        (_MARGIN_PX, _SIDE_PX + 2 * _MARGIN_PX), "queries run down, keys run right; white: not attended to", "black"
    )
    for line, (text, colour) in enumerate(_LEGEND):
        top = _SIDE_PX + 2 * _MARGIN_PX + _LINE_PX * (line + 1)
        draw.rectangle((_MARGIN_PX, top, _MARGIN_PX + 12, top + 12), fill=tuple(colour.astype(int).tolist()))
        draw.text((_MARGIN_PX + 20, top), text, fill="black")
    try:
        canvas.save(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {error}; choose a writable path that ends in .png") from error


def paint_mask(mask: AttentionMask, kinds: NDArray[np.int64], *, side_px: int) -> NDArray[np.uint8]:
    """Paint one row's mask, a pixel per query and key, or fewer where there are more tokens than pixels.

    A pixel of several queries and keys mixes the colours of the keys that are attended to, and white for the others.

    Args:
        mask: of one row.
        kinds: int64 `(tokens,)`, see `token_kinds`.
        side_px: at most as many pixels in both directions.

    Returns:
        uint8 RGB `(side, side, 3)`, side = min(tokens, `side_px`).
    """
    n_tokens = mask.n_tokens
    side = min(n_tokens, side_px)
    edges = np.arange(side + 1) * n_tokens // side  # first token of each pixel, in both directions
    widths = np.diff(edges)[:, None]
    before = np.zeros((n_tokens + 1, len(KIND_COLOURS)), np.int64)  # keys of each kind before a token
    np.cumsum(kinds[:, None] == np.arange(len(KIND_COLOURS)), axis=0, out=before[1:])
    before[:, PADDING_KIND] = 0
    runs = find_runs(kinds[None])
    pixels = np.empty((side, side, 3), np.float32)
    for line in range(side):
        queries = np.unique(np.linspace(edges[line], edges[line + 1] - 1, _SAMPLED_QUERIES).astype(np.int64))
        starts, stops = mask.starts[0, queries], mask.stops[0, queries]
        seen = _count_keys(before, edges, starts, stops)
        in_block = mask.block_ids[0, queries] >= 0
        block_starts = np.maximum(starts, runs.block_start[0, queries])
        block_stops = np.where(in_block, np.minimum(stops, runs.block_stop[0, queries]), block_starts)
        own = _count_keys(before, edges, block_starts, block_stops)
        n_cells = widths * len(queries)
        unseen = n_cells - seen.sum(axis=1, keepdims=True)
        mixed = (seen - own) @ KIND_COLOURS + own.sum(axis=1, keepdims=True) * BLOCK_COLOUR + unseen * 255
        pixels[line] = mixed / n_cells
    return pixels.round().clip(0, 255).astype(np.uint8)


def _count_keys(
    before: NDArray[np.int64], edges: NDArray[np.int64], starts: NDArray[np.int32], stops: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Keys of each kind that the queries `[starts, stops)` see in each pixel, int64 `(pixels, kinds)`."""
    places = np.clip(edges, starts[:, None], np.maximum(starts, stops)[:, None])
    counts: NDArray[np.int64] = np.diff(before[places], axis=1).sum(axis=0)
    return counts
