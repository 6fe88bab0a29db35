"""Mistakes with patches and positions, made of the right ones: they are recognised in conversations, too."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.records import CaseKind
from gemma4_mm.conformance.suspects.scene import Scene, Theory
from gemma4_mm.spec import MERGED_PATCH_PX, PATCH_PX, POOLING

Patches = NDArray[np.float32]
Positions = NDArray[np.int32]
_KINDS: Final[tuple[CaseKind, ...]] = ("image", "video", "conversation")
_PATCHES: Final = ("patches", "pixel_values", "pixel_values_videos")
_POSITIONS: Final = ("position_ids", "image_position_ids", "video_position_ids")


def _levels(patches: Patches) -> Patches:
    levels: Patches = np.rint(patches * np.float32(255))
    return levels


def _tiles(patches: Patches) -> Patches:
    return patches.reshape(*patches.shape[:-1], MERGED_PATCH_PX, MERGED_PATCH_PX, 3)


def _planes(patches: Patches) -> Patches:
    return np.moveaxis(_tiles(patches), -1, -3).reshape(patches.shape)


def _small_patches(patches: Patches) -> Patches:
    """Nine patches of 16 px after each other instead of one of 48 px."""
    lead = patches.shape[:-1]
    tiles = patches.reshape(*lead, POOLING, PATCH_PX, POOLING, PATCH_PX, 3)
    return np.moveaxis(tiles, -3, -4).reshape(patches.shape)


def _padded(
    rows: Callable[[Patches], Patches],
) -> Callable[[Patches], Patches]:
    """Apply to the pictures' own rows; padding stays zero."""

    def compute(patches: Patches) -> Patches:
        made = rows(patches).astype(np.float32)
        made[~patches.any(axis=-1)] = 0
        return made

    return compute


def _bfloat16(patches: Patches) -> Patches:
    bits = patches.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)


_REARRANGED: Final[Mapping[str, tuple[str, Callable[[Patches], Patches]]]] = {
    "times-one-255th": (
        "levels multiplied by 1/255, where a video's are divided by 255",
        lambda p: _levels(p) * np.float32(1 / 255),
    ),
    "divided-by-255": (
        "levels divided by 255, where an image's are multiplied by 1/255",
        lambda p: _levels(p) / np.float32(255),
    ),
    "not-rescaled": ("levels 0 to 255 that are not rescaled", _levels),
    "minus-one-to-one": ("values scaled to -1…1 instead of 0…1", _padded(lambda p: p * np.float32(2) - np.float32(1))),
    "minus-one-to-one-with-padding": (
        "values scaled to -1…1, padding too",
        lambda p: p * np.float32(2) - np.float32(1),
    ),
    "float16": ("values rounded to float16", lambda p: p.astype(np.float16).astype(np.float32)),
    "bfloat16": ("values rounded to bfloat16", _bfloat16),
    "planes-in-patches": ("patches laid out as planes (CHW) instead of pixels (HWC)", _planes),
    "small-patches": ("patches of 16 px one after the other, not merged to 48 px", _small_patches),
    "bgr-in-patches": ("red and blue exchanged (BGR)", lambda p: _tiles(p)[..., ::-1].reshape(p.shape)),
    "transposed-patches": (
        "rows and columns exchanged within each patch",
        lambda p: _tiles(p).swapaxes(-2, -3).reshape(p.shape),
    ),
}


def _patch_theory(name: str, words: str, make: Callable[[Patches], Patches]) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:
        return make(scene.expected[stage]).astype(np.float32)

    return Theory(name=name, words=words, kinds=_KINDS, stages=_PATCHES, compute=compute)


def _where_used(ids: Positions, change: Positions) -> Positions:
    return np.where(ids >= 0, change, ids)


_POSITION_CHANGES: Final[Mapping[str, tuple[str, Callable[[Positions], Positions]]]] = {
    "yx-ids": ("position ids as (y, x) instead of (x, y)", lambda ids: ids[..., ::-1]),
    "ids-padded-with-zero": ("padding positions of 0 instead of -1", lambda ids: np.maximum(ids, 0)),
    "ids-from-one": ("positions counted from 1", lambda ids: _where_used(ids, ids + 1)),
    "ids-of-16-px": ("positions in patches of 16 px instead of 48 px", lambda ids: _where_used(ids, ids * 3)),
}


def _position_theory(name: str, words: str, make: Callable[[Positions], Positions]) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:
        return make(scene.expected[stage])

    return Theory(name=name, words=words, kinds=_KINDS, stages=_POSITIONS, compute=compute)


PATCH_THEORIES: Final = (
    *(_patch_theory(name, *row) for name, row in _REARRANGED.items()),
    *(_position_theory(name, *row) for name, row in _POSITION_CHANGES.items()),
)
