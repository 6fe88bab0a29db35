"""All media of a batch: opened, laid out, and written into the tensors of a call."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.audio.waveform import plan_frames
from gemma4_mm.encode.access import Access
from gemma4_mm.encode.audio import OpenedAudio, open_audios, write_audio
from gemma4_mm.encode.images import OpenedImage, open_images, write_images
from gemma4_mm.encode.videos import OpenedVideo, open_videos, write_videos
from gemma4_mm.errors import InputError
from gemma4_mm.layout import MediaPlan
from gemma4_mm.releases import Profile
from gemma4_mm.request.batch import Batch
from gemma4_mm.request.options import CallOptions
from gemma4_mm.spec import PATCH_VALUES, SAMPLES_PER_TOKEN, MediaKind


@dataclass(frozen=True, kw_only=True)
class OpenedMedia:
    """All media of a batch, identified and measured; none is decoded yet.

    Attributes:
        images: in order of appearance, as all that follow.
        videos: with the frames that are taken.
        audio: with their lengths.
        plan: what the token layout follows from.
    """

    images: tuple[OpenedImage, ...]
    videos: tuple[OpenedVideo, ...]
    audio: tuple[OpenedAudio, ...]
    plan: MediaPlan


@dataclass(frozen=True, kw_only=True)
class WrittenMedia:
    """Tensors of all media of a batch.

    Attributes:
        tensors: under Hugging Face's names; see `ModelInputs`.
        valid_rows: per kind, the tensor rows of each item without padding, counted in the tensors.
    """

    tensors: dict[str, NDArray[Any]]
    valid_rows: dict[MediaKind, list[int]]


def open_media(batch: Batch, options: CallOptions, access: Access) -> OpenedMedia:
    """Open all media of a batch and plan their tensors.

    Raises:
        InputError: what the reference would refuse by sizes alone: the message names the item.
        MediaError: a file without a readable header.
        LimitError: a medium over the limits.
    """
    images = open_images(batch.all_images, max_soft_tokens=options.image_soft_tokens, access=access)
    videos = open_videos(batch.videos, options=options.video, access=access)
    audio = open_audios(batch.audio, access=access)
    return OpenedMedia(
        images=images,
        videos=videos,
        audio=audio,
        plan=_plan(images, videos, audio, options=options, profile=access.profile),
    )


def write_media(media: OpenedMedia, options: CallOptions, access: Access) -> WrittenMedia:
    """Decode all media and write their tensors, under Hugging Face's names, shapes and dtypes.

    `pixel_values` `(images, max_soft_tokens, 6912)` with `image_position_ids` int64 `(images, max_soft_tokens, 2)`;
    `pixel_values_videos` `(frames of all videos, max_soft_tokens, 6912)` with `video_position_ids` and
    `num_frames_per_video` int64 `(videos,)`, or under a profile with the stacked layout `(videos, frames, …)` without
    counts; `input_features` `(audios, frames, 640)` with `input_features_mask` bool `(audios, frames)`.

    Raises:
        InputError: a size in the place of a medium, or an array of the caller's that does not fit.
        MediaError: a file that cannot be decoded.
    """
    _refuse_sizes(media)
    stacked = access.profile.video_layout == "stacked"
    # All memory first: an array of the caller's that does not fit is told before a pixel is decoded.
    tensors = _allocate(media, options, stacked=stacked)
    valid_rows: dict[MediaKind, list[int]] = {"image": [], "video": [], "audio": []}
    if media.images:
        pixels, positions = tensors["pixel_values"], tensors["image_position_ids"]
        write_images(media.images, pixels, positions, execution=access.execution)
        valid_rows["image"] = _count_valid(positions).tolist()
    if media.videos:
        pixels, positions = tensors["pixel_values_videos"], tensors["video_position_ids"]
        pixels, positions = pixels.reshape(-1, *pixels.shape[-2:]), positions.reshape(-1, *positions.shape[-2:])
        write_videos(media.videos, pixels, positions)
        starts = np.cumsum([0, *media.plan.frame_counts[:-1]])
        valid_rows["video"] = np.add.reduceat(_count_valid(positions), starts).tolist()
    if media.audio:
        write_audio(media.audio, tensors["input_features"], counts=media.plan.audio_tokens)
        valid_rows["audio"] = tensors["input_features_mask"].sum(axis=1).tolist()
    return WrittenMedia(tensors=options.outputs.settle(tensors), valid_rows=valid_rows)


def _allocate(media: OpenedMedia, options: CallOptions, *, stacked: bool) -> dict[str, NDArray[Any]]:
    outputs, plan = options.outputs, media.plan
    tensors: dict[str, NDArray[Any]] = {}
    if media.images:
        rows: tuple[int, ...] = (len(media.images), options.image_soft_tokens)
        tensors["pixel_values"] = outputs.allocate("pixel_values", (*rows, PATCH_VALUES))
        tensors["image_position_ids"] = outputs.allocate("image_position_ids", (*rows, 2), np.int64)
    if media.videos:
        counts = plan.frame_counts
        rows = (len(counts), counts[0]) if stacked else (sum(counts),)
        rows = (*rows, options.video.max_soft_tokens)
        tensors["pixel_values_videos"] = outputs.allocate("pixel_values_videos", (*rows, PATCH_VALUES))
        tensors["video_position_ids"] = outputs.allocate("video_position_ids", (*rows, 2), np.int64)
        if not stacked:
            tensors["num_frames_per_video"] = np.array(counts, np.int64)
    if media.audio:
        rows = (len(media.audio), plan.audio_width)
        tensors["input_features"] = outputs.allocate("input_features", (*rows, SAMPLES_PER_TOKEN))
        tensors["input_features_mask"] = np.arange(plan.audio_width) < np.asarray(plan.audio_tokens)[:, None]
    return tensors


def _plan(
    images: Sequence[OpenedImage],
    videos: Sequence[OpenedVideo],
    audio: Sequence[OpenedAudio],
    *,
    options: CallOptions,
    profile: Profile,
) -> MediaPlan:
    grids, plans = tuple(image.grid for image in images), tuple(video.plan for video in videos)
    counts = [len(plan.frame_indices) for plan in plans]
    if profile.video_layout == "stacked" and len(set(counts)) > 1:
        raise InputError(
            f"videos of {counts} frames cannot be stacked, as {profile.name} stacks them; sample equally many "
            "frames or use a later profile"
        )
    if not audio:
        return MediaPlan(images=grids, videos=plans)
    frames = plan_frames(
        [item.n_samples for item in audio],
        padding=options.audio.padding,
        max_length=options.audio.max_length,
        truncation=options.audio.truncation,
    )
    return MediaPlan(images=grids, videos=plans, audio_tokens=frames.counts, audio_width=frames.width)


def _count_valid(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = (positions[..., 0] >= 0).sum(axis=-1)
    return counts


def _refuse_sizes(media: OpenedMedia) -> None:
    opened: dict[MediaKind, Sequence[OpenedImage | OpenedVideo | OpenedAudio]] = {
        "image": media.images,
        "video": media.videos,
        "audio": media.audio,
    }
    for kind, items in opened.items():
        for index, item in enumerate(items):
            if item.is_size_only:
                raise InputError(
                    f"{kind} {index} is a size, which serves plans only; give the {kind} itself: a path, bytes, a file "
                    "object, a data: URI, base64 text or decoded data"
                )
