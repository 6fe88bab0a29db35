"""The works that are compared, and how fast they must be."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import reference
from benchmarks.vision import MIXED_SIZES, clip, encode_images_with, encode_video_with, photograph, sound
from gemma4_mm.execution import Execution
from gemma4_mm.processor import Processor
from gemma4_mm.releases import DEFAULT_PROFILE

QUESTION: Final = "What do you see, and what do you hear? Answer in two sentences."


@dataclass(frozen=True, kw_only=True)
class Case:
    """One work, done by every side from the same decoded arrays.

    Attributes:
        name: what is encoded.
        numpy_target: least ratio of Hugging Face's time to ours, with numpy.
        numba_target: the same with the compiled kernel.
        ours: does it under an execution; tensors by name.
        theirs: the same by Hugging Face.
        floor: torchvision's resize alone; None where that is not the work.
        mlx: what `benchmarks.mlx_worker` does, and with which arrays.
    """

    name: str
    numpy_target: float
    numba_target: float
    ours: Callable[[Execution], Mapping[str, Any]]
    theirs: Callable[[], Mapping[str, Any]]
    floor: Callable[[], object] | None = None
    mlx: str
    arrays: Sequence[NDArray[Any]] = field(repr=False)


def image_case(*, height_px: int, width_px: int, numpy_target: float, numba_target: float) -> Case:
    """One image."""
    images = [photograph(height_px=height_px, width_px=width_px)]
    return _images_case(f"image {width_px}×{height_px}", images, numpy_target=numpy_target, numba_target=numba_target)


def mixed_case() -> Case:
    """Images of several sizes in one call."""
    images = [photograph(height_px=height_px, width_px=width_px) for height_px, width_px in MIXED_SIZES]
    name = f"{len(images)} mixed images, one call"
    return _images_case(name, images, numpy_target=1.5, numba_target=3.0)


def video_case() -> Case:
    """All frames of a video."""
    frames = clip(height_px=720, width_px=1280)
    return Case(
        name=f"video, {len(frames)} frames 1280×720",
        numpy_target=1.05,
        numba_target=2.2,
        ours=lambda execution: encode_video_with(execution, frames),
        theirs=lambda: reference.hf_video(frames),
        floor=reference.bare_resize([frames], max_soft_tokens=DEFAULT_PROFILE.video_soft_tokens),
        mlx="video",
        arrays=[frames],
    )


def conversation_case() -> Case:
    """A chat turn with an image and ten seconds of audio, from messages to all tensors."""
    from PIL import Image

    rgb, waveform = photograph(height_px=1080, width_px=1920), sound(duration_s=10)
    content: list[dict[str, Any]] = [
        {"type": "image", "image": Image.fromarray(rgb)},
        {"type": "audio", "audio": waveform},
        {"type": "text", "text": QUESTION},
    ]
    messages = [{"role": "user", "content": content}]

    def ours(execution: Execution) -> Mapping[str, Any]:
        inputs: Mapping[str, Any] = _processor_with(execution).apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        return inputs

    return Case(
        name="chat: 1 image, 10 s audio, text",
        numpy_target=1.5,
        numba_target=2.5,
        ours=ours,
        theirs=lambda: reference.hf_conversation(messages),
        mlx="conversation",
        arrays=[rgb, waveform],
    )


def _images_case(name: str, images: list[NDArray[np.uint8]], *, numpy_target: float, numba_target: float) -> Case:
    return Case(
        name=name,
        numpy_target=numpy_target,
        numba_target=numba_target,
        ours=lambda execution: encode_images_with(execution, images),
        theirs=lambda: reference.hf_images(images),
        floor=reference.bare_resize(images, max_soft_tokens=DEFAULT_PROFILE.image_soft_tokens),
        mlx="images",
        arrays=images,
    )


@cache
def _processor() -> Processor:
    return Processor.from_pretrained(reference.assets().tokenizer.parent)


@cache
def _processor_with(execution: Execution) -> Processor:
    processor = copy.copy(_processor())
    processor.execution = execution
    return processor


CASES: Final[tuple[Callable[[], Case], ...]] = (
    lambda: image_case(height_px=480, width_px=640, numpy_target=1.5, numba_target=2.8),
    lambda: image_case(height_px=1080, width_px=1920, numpy_target=1.2, numba_target=2.2),
    lambda: image_case(height_px=3000, width_px=4000, numpy_target=1.9, numba_target=4.0),
    lambda: image_case(height_px=6000, width_px=8000, numpy_target=2.8, numba_target=6.0),
    video_case,
    mixed_case,
    conversation_case,
)
