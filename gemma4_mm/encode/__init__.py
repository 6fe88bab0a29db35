"""Media to tensors and to plans, one file a kind: each item is decoded once and written once, into its place."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from gemma4_mm.batch import Batch
from gemma4_mm.encode.access import Access
from gemma4_mm.encode.audio import encode_audio, measure_audio
from gemma4_mm.encode.cached import find_media
from gemma4_mm.encode.images import encode_images, measure_images
from gemma4_mm.encode.videos import encode_videos, measure_videos
from gemma4_mm.layout import MediaPlan
from gemma4_mm.options import CallOptions
from gemma4_mm.spec import MediaKind


@dataclass(frozen=True, kw_only=True)
class EncodedMedia:
    """Tensors of all media of a batch, and the plan that they follow.

    Attributes:
        tensors: under Hugging Face's names; see `ModelInputs`.
        plan: grids, frames, timestamps and counts.
        valid_rows: per kind, the tensor rows of each item without padding, counted in the tensors.
    """

    tensors: dict[str, NDArray[Any]]
    plan: MediaPlan
    valid_rows: dict[MediaKind, list[int]]


def encode_media(batch: Batch, options: CallOptions, access: Access) -> EncodedMedia:
    """Decode all media of a batch and write their tensors, under Hugging Face's names, shapes and dtypes.

    Raises:
        InputError: an array or size that the reference would refuse; the message names the item.
        MediaError: a file that cannot be decoded.
        LimitError: a medium over the limits.
    """
    found = None if access.cache is None else find_media(batch, options, access, access.cache)
    images = encode_images(
        batch.all_images if found is None else [item.value for item in found.images],
        max_soft_tokens=options.image_soft_tokens,
        access=access,
        outputs=options.outputs,
    )
    videos = encode_videos(
        batch.videos if found is None else [item.value for item in found.videos],
        options=options.video,
        access=access,
        outputs=options.outputs,
    )
    audio = encode_audio(
        batch.audio if found is None else found.audio, length=options.audio, access=access, outputs=options.outputs
    )
    if found is not None:
        found.keep(images, videos)
    return EncodedMedia(
        tensors=options.outputs.settle({**images.tensors, **videos.tensors, **audio.tensors}),
        plan=MediaPlan(images=images.plans, videos=videos.plans, audio_tokens=audio.plans),
        valid_rows={"image": images.valid_rows, "video": videos.valid_rows, "audio": audio.valid_rows},
    )


def measure_media(batch: Batch, options: CallOptions, access: Access) -> MediaPlan:
    """Plan all media of a batch from headers and sizes alone; errors are those of `encode_media`."""
    return MediaPlan(
        images=measure_images(batch.all_images, max_soft_tokens=options.image_soft_tokens, access=access),
        videos=measure_videos(batch.videos, options=options.video, access=access),
        audio_tokens=measure_audio(batch.audio, length=options.audio, access=access),
    )
