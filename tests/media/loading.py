"""Media decoded whole, for tests: what the package only does item by item, in place."""

from dataclasses import dataclass

import numpy as np

from gemma4_mm.core.audio.waveform import write_blocks
from gemma4_mm.inputs import ImageSize
from gemma4_mm.media.access import MediaAccess
from gemma4_mm.media.audio import open_audio
from gemma4_mm.media.image import open_image
from gemma4_mm.media.metadata import VideoMetadata
from gemma4_mm.media.video import FrameSampling, open_video

_ACCESS = ("profile", "limits", "allow_network")
_SAMPLING = ("num_frames", "fps", "do_sample_frames")


@dataclass(frozen=True, kw_only=True)
class Video:
    """The frames taken of one video, and which they are."""

    frames: tuple[np.ndarray, ...]
    metadata: VideoMetadata


def _arguments(options):
    access = {name: options.pop(name) for name in _ACCESS if name in options}
    return {"access": MediaAccess(**access), **options}


def load_image(value, **options):
    """Open and decode."""
    return open_image(value, **_arguments(options)).decode()


def image_size(value, **options):
    """Open, and say the size."""
    source = open_image(value, **_arguments(options))
    return ImageSize(height_px=source.height_px, width_px=source.width_px)


def load_audio(value, **options):
    """Open and decode, float32 `(samples,)`."""
    source = open_audio(value, **_arguments(options))
    samples = np.empty(source.n_samples, np.float32)
    write_blocks(source.blocks(), samples)
    return samples


def audio_samples(value, **options):
    """Open, and say the length."""
    return open_audio(value, **_arguments(options)).n_samples


def open_clip(value, **options):
    """Open a video with the arguments of sampling spelled out."""
    sampling = FrameSampling(**{name: options.pop(name) for name in _SAMPLING if name in options})
    return open_video(value, sampling=sampling, **_arguments(options))


def load_video(value, **options):
    """Open, and decode every frame taken."""
    source = open_clip(value, **options)
    return Video(frames=tuple(source.frames()), metadata=source.metadata)


def probe_video(value, **options):
    """Open, and say which frames are taken."""
    return open_clip(value, **options).metadata
