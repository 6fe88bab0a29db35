"""Are our bits those of the transformers and torch that are installed, on this processor? Tested once in a process.

Not the version decides, but a comparison on small media at the first call: torch's resize of bytes has an exact integer
path on processors with AVX2 and another one elsewhere, and a release of tomorrow may change a rule. Where one bit
differs, or a method that is replaced here does not exist, there is one `RuntimeWarning` and transformers' code runs.
"""

import warnings
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from typing import Any, Final

import numpy as np
from PIL import Image

from gemma4_mm.hf.images import preprocess_images
from gemma4_mm.hf.pixels import default_execution
from gemma4_mm.hf.rule import PixelRule
from gemma4_mm.hf.theirs import IMAGE_HOOKS, VIDEO_HOOKS, HFImageProcessor, HFVideoProcessor, Hooks, torch
from gemma4_mm.hf.videos import preprocess_videos, view_channels_first

_BUDGET: Final = 70  # the least: the comparison takes some 50 ms
_SHAPES: Final = ((97, 133), (601, 47), (40, 1900))  # shrunk and stretched, of odd length
_IMAGES: Final = PixelRule(max_soft_tokens=_BUDGET, rescale="multiply")
_VIDEOS: Final = PixelRule(max_soft_tokens=_BUDGET, rescale="divide")


@cache
def images_are_equal() -> bool:
    """Whether images are ours to compute; warns once if not."""
    images = list(_small_images())
    return _trusted("images", IMAGE_HOOKS) and _warn_unless(
        "images",
        _same(
            HFImageProcessor(max_soft_tokens=_BUDGET)(images),
            preprocess_images(images, rule=_IMAGES, execution=default_execution()),
        ),
    )


@cache
def videos_are_equal() -> bool:
    """Whether video frames are ours to compute; warns once if not."""
    videos = [np.stack([_noise(*shape), _noise(*shape)[::-1]]) for shape in _SHAPES]
    if not _trusted("videos", VIDEO_HOOKS):
        return False
    theirs = HFVideoProcessor(max_soft_tokens=_BUDGET)(videos, do_sample_frames=False, return_metadata=False)
    views = view_channels_first(videos, input_data_format=None)
    ours = preprocess_videos(views or [], rule=_VIDEOS, execution=default_execution())
    return _warn_unless("videos", _same(theirs, ours))


def _small_images() -> Iterator[Any]:
    for height_px, width_px in _SHAPES:
        rgba = _noise(height_px, width_px, channels=4)
        yield Image.fromarray(rgba)
        yield rgba
        yield rgba[..., :3]
        yield Image.fromarray(rgba[..., :3])
    yield _noise(97, 133)[..., :1].transpose(2, 0, 1)


def _noise(height_px: int, width_px: int, *, channels: int = 3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Both ends of the range, where every clip and rounding shows."""
    generator = np.random.default_rng(height_px)
    shape = (height_px, width_px, channels)
    return (generator.integers(0, 2, shape) * 255 ^ generator.integers(0, 8, shape)).astype(np.uint8)


def _trusted(media: str, hooks: Hooks) -> bool:
    return not hooks.missing or _warn_unless(media, False, missing=hooks.missing)


def _same(theirs: Any, ours: dict[str, Any] | None) -> bool:
    """Whether two results have the same keys, types and bits."""
    if ours is None or list(theirs) != list(ours):
        return False
    return all(is_same(theirs[key], value) for key, value in ours.items())


def is_same(theirs: Any, ours: Any) -> bool:
    """Whether two values of a result have the same type, dtype, shape and bits."""
    if type(theirs) is not type(ours):
        return False
    if isinstance(theirs, torch.Tensor):
        if theirs.dtype != ours.dtype or theirs.shape != ours.shape:
            return False
        return bool(np.array_equal(theirs.contiguous().view(torch.uint8).numpy(), ours.view(torch.uint8).numpy()))
    return bool(theirs == ours)


def _warn_unless(media: str, trusted: bool, *, missing: list[str] | None = None) -> bool:
    if not trusted:
        why = f"it has no {', '.join(missing)}" if missing else "bits differ from ours on this machine"
        warnings.warn(
            f"gemma4_mm.hf leaves {media} to transformers {metadata.version('transformers')} (torch "
            f"{torch.__version__}): {why}; python -m gemma4_mm.hf check says where; tested are transformers 5.24 and "
            "torch 2.14",
            RuntimeWarning,
            stacklevel=5,
        )
    return trusted
