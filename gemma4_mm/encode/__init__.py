"""Media to tensors and to plans, one file a kind: each item is decoded once and written once, into its place."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from gemma4_mm.batch import Batch
from gemma4_mm.cache import MediaCache
from gemma4_mm.encode.access import Access, Encoded
from gemma4_mm.encode.audio import encode_audio, measure_audio
from gemma4_mm.encode.cached import find_audio, find_images, find_videos, keep_images, keep_videos
from gemma4_mm.encode.images import encode_images, measure_images
from gemma4_mm.encode.videos import encode_videos, measure_videos
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.layout import MediaPlan, VideoPlan
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
    if access.cache is None:
        images = encode_images(batch.all_images, max_soft_tokens=options.image_soft_tokens, access=access)
        videos = encode_videos(batch.videos, options=options.video, access=access)
        audio = encode_audio(batch.audio, length=options.audio, access=access)
    else:
        images, videos, audio = _encode_through(access.cache, batch, options, access)
    return EncodedMedia(
        tensors={**images.tensors, **videos.tensors, **audio.tensors},
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


def _encode_through(
    cache: MediaCache, batch: Batch, options: CallOptions, access: Access
) -> tuple[Encoded[PatchGrid], Encoded[VideoPlan], Encoded[int]]:
    """Encode what the cache does not have, and keep it."""
    budget = options.image_soft_tokens
    found = find_images(batch.all_images, max_soft_tokens=budget, access=access)
    images = encode_images([item.value for item in found], max_soft_tokens=budget, access=access)
    if found:
        keep_images(found, images.tensors["pixel_values"], images.plans, cache=cache)
    found = find_videos(batch.videos, options=options.video, access=access)
    videos = encode_videos([item.value for item in found], options=options.video, access=access)
    if found:
        keep_videos(found, videos.tensors["pixel_values_videos"], videos.plans, cache=cache)
    waveforms = find_audio(batch.audio, access=access, cache=cache)
    return images, videos, encode_audio(waveforms, length=options.audio, access=access)
