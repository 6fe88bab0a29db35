"""Videos to merged patches, frame by frame."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.geometry import plan_image, position_ids
from gemma4_mm.core.patches import encode_frames
from gemma4_mm.core.resample import ArrayRows
from gemma4_mm.core.sampling import frame_timestamps, sample_frame_indices
from gemma4_mm.encode.access import Access, Encoded, naming
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import VideoSize
from gemma4_mm.layout import VideoPlan
from gemma4_mm.media.metadata import VideoMetadata
from gemma4_mm.media.video import load_video, probe_video
from gemma4_mm.options import VideoOptions
from gemma4_mm.spec import PATCH_VALUES


def encode_videos(values: Sequence[Any], *, options: VideoOptions, access: Access) -> Encoded[VideoPlan]:
    """Decode the sampled frames of videos and write each into its rows of one array.

    Returns:
        `pixel_values_videos` float32 `(frames of all videos, max_soft_tokens, 6912)`, `video_position_ids` int64
        `(frames, max_soft_tokens, 2)`, `num_frames_per_video` int64 `(videos,)`. Under a profile with the stacked
        layout the first two have the shape `(videos, frames, …)` and the last is not there.
    """
    if not values:
        return Encoded()
    given = _metadata_per_video(options.video_metadata, n_videos=len(values))
    plans, pixels, positions = [], [], []
    for item, value in enumerate(values):
        label = f"video {item}"
        video = load_video(
            value, **_sampling(options), video_metadata=given[item], profile=access.profile, **access.arguments(label)
        )
        plan = _plan(video.metadata, label=label, options=options)
        frames = [ArrayRows(frame) for frame in video.frames]
        rows = np.zeros((len(frames), options.max_soft_tokens, PATCH_VALUES), np.float32)
        encode_frames(frames, rows, grid=plan.grid, execution=access.execution)
        places = np.full((len(frames), options.max_soft_tokens, 2), -1, np.int64)
        places[:, : plan.grid.n_tokens] = position_ids(plan.grid)
        plans.append(plan)
        pixels.append(rows)
        positions.append(places)
    counts = [len(rows) for rows in pixels]
    stacked = access.profile.video_layout == "stacked"
    if stacked and len(set(counts)) > 1:
        raise InputError(
            f"videos of {counts} frames cannot be stacked, as {access.profile.name} stacks them; sample equally many "
            "frames or use a later profile"
        )
    join = np.stack if stacked else np.concatenate
    tensors: dict[str, NDArray[Any]] = {
        # the array of a single video is the batch's: no copy
        "pixel_values_videos": pixels[0] if len(pixels) == 1 and not stacked else join(pixels),
        "video_position_ids": join(positions),
    }
    if not stacked:
        tensors["num_frames_per_video"] = np.array(counts, np.int64)
    return Encoded(
        tensors=tensors,
        plans=tuple(plans),
        valid_rows=[int((places[..., 0] >= 0).sum()) for places in positions],
    )


def measure_videos(values: Sequence[Any], *, options: VideoOptions, access: Access) -> tuple[VideoPlan, ...]:
    """Plan videos from their headers or `VideoSize` alone."""
    if not values:
        return ()
    given = _metadata_per_video(options.video_metadata, n_videos=len(values))
    plans = []
    for item, value in enumerate(values):
        label = f"video {item}"
        if isinstance(value, VideoSize):
            plans.append(_plan_size(value, label=label, options=options, access=access))
            continue
        metadata = probe_video(
            value, **_sampling(options), video_metadata=given[item], profile=access.profile, **access.arguments(label)
        )
        plans.append(_plan(metadata, label=label, options=options))
    return tuple(plans)


def _sampling(options: VideoOptions) -> dict[str, Any]:
    return {"num_frames": options.num_frames, "fps": options.fps, "do_sample_frames": options.do_sample_frames}


def _plan(metadata: VideoMetadata, *, label: str, options: VideoOptions) -> VideoPlan:
    with naming(label):
        grid = plan_image(
            height_px=metadata.height_px, width_px=metadata.width_px, max_soft_tokens=options.max_soft_tokens
        )
    return VideoPlan(grid=grid, frame_indices=metadata.frame_indices, timestamps_s=metadata.timestamps_s)


def _plan_size(size: VideoSize, *, label: str, options: VideoOptions, access: Access) -> VideoPlan:
    with naming(label):
        indices = sample_frame_indices(
            size.total_frames,
            num_frames=options.num_frames if options.do_sample_frames else None,
            fps=options.fps if options.do_sample_frames else None,
            video_fps=size.fps,
            profile=access.profile,
        ).tolist()
        grid = plan_image(height_px=size.height_px, width_px=size.width_px, max_soft_tokens=options.max_soft_tokens)
    return VideoPlan(
        grid=grid, frame_indices=tuple(indices), timestamps_s=frame_timestamps(indices, video_fps=size.fps)
    )


def _metadata_per_video(given: Any, *, n_videos: int) -> list[Any]:
    """One `video_metadata` entry per video; a nested list is flattened, as the reference does."""
    if given is None:
        return [None] * n_videos
    entries = list(given) if isinstance(given, list | tuple) else [given]
    if entries and isinstance(entries[0], list | tuple):
        entries = [entry for per_prompt in entries for entry in per_prompt]
    if len(entries) != n_videos:
        raise InputError(f"{n_videos} videos but {len(entries)} video_metadata entries; pass one entry per video")
    return entries
