"""The comparison of `python -m gemma4_mm.hf check`: transformers' image and video processor against ours, every bit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gemma4_mm.execution import Execution
from gemma4_mm.hf.image_processor import Gemma4UnifiedImageProcessorFast
from gemma4_mm.hf.pixels import default_execution
from gemma4_mm.hf.rule import read_rule
from gemma4_mm.hf.theirs import IMAGE_HOOKS, VIDEO_HOOKS, HFImageProcessor, HFVideoProcessor, torch
from gemma4_mm.hf.trust import images_are_equal, is_same, videos_are_equal
from gemma4_mm.hf.video_processor import Gemma4UnifiedVideoProcessorFast
from gemma4_mm.spec import SOFT_TOKEN_BUDGETS

_MODES: Final = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "HSV")
_SHAPES: Final = ((480, 640), (97, 133), (11, 900), (900, 11), (48, 48), (1, 1), (3000, 4000))
_NORMALIZED: Final = {"do_normalize": True, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call.

    Attributes:
        name: e.g. `image 480×640 RGBA`.
        media: what is given, a list of images or of videos.
        options: keyword arguments of the call.
        is_video: which of the two processors is called.
    """

    name: str
    media: list[Any]
    options: dict[str, Any]
    is_video: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a call showed.

    Attributes:
        name: the case's, with kernel and threads.
        different: keys of the result whose type, dtype, shape or bits differ; `all` if the keys do.
    """

    name: str
    different: list[str]


def executions() -> list[Execution]:
    """Every kernel that works here, on one thread and on two."""
    kernels = dict.fromkeys(["numpy", default_execution().kernel])
    return [Execution(kernel=kernel, threads=threads) for kernel in kernels for threads in (1, 2)]


def find_gaps() -> list[str]:
    """Why transformers' code would run in place of ours, one line each."""
    gaps = [f"transformers has no method {name}" for name in {*IMAGE_HOOKS.missing, *VIDEO_HOOKS.missing}]
    if gaps:
        return sorted(gaps)
    for theirs, media in ((HFImageProcessor(), "images"), (HFVideoProcessor(), "videos")):
        if read_rule({name: getattr(theirs, name, None) for name in theirs.valid_kwargs.__annotations__}) is None:
            gaps.append(f"the default arguments of {media} are not those that are reproduced")
    if not images_are_equal():
        gaps.append("bits of small images differ")
    if not videos_are_equal():
        gaps.append("bits of small videos differ")
    return gaps


def cases() -> Iterator[Case]:
    """Pillow modes, arrays and tensors, sizes, budgets, both rules of rescaling, and clips."""
    for height_px, width_px in _SHAPES:
        rgba = _picture(height_px, width_px)
        name = f"image {height_px}×{width_px}"
        yield Case(name=f"{name} Pillow RGB", media=[Image.fromarray(rgba[..., :3])], options={})
        yield Case(name=f"{name} array", media=[rgba[..., :3]], options={"input_data_format": "channels_last"})
        planes = torch.from_numpy(np.ascontiguousarray(rgba[..., :3].transpose(2, 0, 1)))
        yield Case(name=f"{name} tensor", media=[planes], options={"input_data_format": "channels_first"})
    rgba = _picture(301, 417)
    for mode in _MODES:
        yield Case(name=f"image 301×417 Pillow {mode}", media=[Image.fromarray(rgba).convert(mode)], options={})
    yield Case(name="image 301×417 array RGBA", media=[rgba], options={})
    yield Case(name="image 301×417 array grey", media=[rgba[..., :1]], options={})
    for budget in SOFT_TOKEN_BUDGETS:
        yield Case(name=f"{budget} soft tokens", media=[rgba[..., :3], rgba], options={"max_soft_tokens": budget})
    yield Case(name="normalized", media=[rgba[..., :3]], options=_NORMALIZED)
    clip = np.stack([_picture(270, 480)[..., :3], _picture(270, 480, seed=1)[..., :3]])
    planes = torch.from_numpy(clip.transpose(0, 3, 1, 2).copy())
    for name, video in (("array", clip), ("tensor", planes)):
        yield _clip(f"clip 270×480 {name}", [video])
        yield _clip(f"clip 270×480 {name}, multiplied", [video], do_normalize=False)
        yield _clip(f"clips of two sizes, {name}", [video, video[:, 10:-10]] if name == "array" else [video, video])


def run(case: Case, execution: Execution) -> Outcome:
    """Make one call on both sides."""
    theirs, ours = (
        (HFVideoProcessor(), Gemma4UnifiedVideoProcessorFast())
        if case.is_video
        else (HFImageProcessor(), Gemma4UnifiedImageProcessorFast())
    )
    ours.execution = execution
    wanted, given = theirs(case.media, **case.options), ours(case.media, **case.options)
    different = [key for key in wanted if key not in given or not is_same(wanted[key], given[key])]
    return Outcome(
        name=f"{case.name}, {execution.kernel} on {execution.threads}",
        different=different if list(wanted) == list(given) else ["all"],
    )


def _clip(name: str, videos: list[Any], **options: Any) -> Case:
    always = {"do_sample_frames": False, "return_metadata": False}
    return Case(name=name, media=videos, options={**always, **options}, is_video=True)


def _picture(height_px: int, width_px: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Noise over shading, uint8 RGBA `(height, width, 4)`."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 64, (height_px, width_px, 4), dtype=np.uint8)
    shade = (np.arange(width_px) * 191 // max(width_px - 1, 1)).astype(np.uint8)
    picture: NDArray[np.uint8] = noise + shade[:, None]
    return picture
