"""Pictures for benchmarks: as easy to round as photographs, and cases of images and frames for pytest-benchmark."""

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.assets.processor_config import ProcessorConfig
from gemma4_mm.encode.access import Access
from gemma4_mm.encode.media import open_media, write_media
from gemma4_mm.execution import Execution
from gemma4_mm.releases import DEFAULT_PROFILE
from gemma4_mm.request.batch import Batch, collect_batch
from gemma4_mm.request.options import resolve_options
from gemma4_mm.spec import VIDEO_TOKEN

Tensors = dict[str, NDArray[np.generic]]
"""Under Hugging Face's names."""

# Sizes (height, width) of images in one call: what a chat with phone photographs and screenshots holds.
MIXED_SIZES: Final = (
    *[(480, 640)] * 3,
    *[(640, 480)] * 2,
    *[(720, 1280)] * 3,
    *[(1080, 1920)] * 3,
    *[(1920, 1080)] * 2,
    *[(1536, 2048)] * 2,
    (3000, 4000),
)


@cache
def photograph(*, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Smooth shapes and sensor noise, uint8 `(height, width, 3)`."""
    generator = np.random.default_rng(0)
    y, x = np.ogrid[:height_px, :width_px]
    rgb = np.empty((height_px, width_px, 3), np.uint8)
    for channel in range(3):
        light = 127 + 100 * np.sin(x / 37 + channel) * np.cos(y / (53 + channel))
        light += generator.normal(0, 12, (height_px, width_px))
        rgb[..., channel] = light.clip(0, 255)
    return rgb


def clip(*, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Frames of one video, uint8 `(32, height, width, 3)`."""
    frame = photograph(height_px=height_px, width_px=width_px)
    return np.stack([np.roll(frame, shift, axis=1) for shift in range(DEFAULT_PROFILE.video_frames)])


def sound(*, duration_s: float) -> NDArray[np.float32]:
    """A rising tone at 16 kHz, float32."""
    time_s = np.arange(round(duration_s * 16_000)) / 16_000
    return (0.5 * np.sin(2 * np.pi * (220 * time_s + 30 * time_s**2))).astype(np.float32)


def encode_images_with(execution: Execution, images: list[NDArray[np.uint8]]) -> Tensors:
    """Encode images of one call, as `Processor` does after its tokenizer's part."""
    return _encode(collect_batch(text=None, images=images, videos=None, audio=None), {}, execution)


def encode_video_with(execution: Execution, frames: NDArray[np.uint8]) -> Tensors:
    """Encode all frames of one video, as `Processor` does."""
    batch = collect_batch(text=VIDEO_TOKEN, images=None, videos=[frames], audio=None)
    return _encode(batch, {"do_sample_frames": False}, execution)


def _encode(batch: Batch, arguments: dict[str, Any], execution: Execution) -> Tensors:
    """Open and write media under a processor's defaults, but for the execution."""
    options = resolve_options(arguments, config=ProcessorConfig())
    access = Access(execution=execution)
    return dict(write_media(open_media(batch, options, access), options, access).tensors)
