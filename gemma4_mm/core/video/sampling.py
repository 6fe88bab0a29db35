"""Which frames of a video are used, and the `mm:ss` that the prompt says before each of them."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.errors import InputError
from gemma4_mm.releases import DEFAULT_PROFILE, Profile


def sample_frame_indices(
    total_frames: int,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    video_fps: float | None = None,
    profile: Profile = DEFAULT_PROFILE,
) -> NDArray[np.int64]:
    """Spread `num_frames` (or `fps` frames a second) evenly over a video; without either, take every frame.

    Ten frames sampled at four: 0, 2, 5, 7. Source: transformers 5.24 `default_sample_indices_fn` under the
    "integer" rule, `BaseVideoProcessor.sample_frames` of 5.17 under the "float" rule, whose float32 steps can give
    one frame more than asked for.

    Args:
        total_frames: frames of the video.
        num_frames: frames to take, at most `total_frames`.
        fps: frames to take for each second of video, instead of `num_frames`.
        video_fps: frame rate of the video, needed with `fps`.
        profile: names the rule, `Profile.frame_sampling`.

    Returns:
        int64 `(frames,)`, non-decreasing.

    Raises:
        InputError: both counts are given, more frames are asked for than there are, or `video_fps` is missing.
    """
    if num_frames is not None and fps is not None:
        raise InputError("num_frames and fps were both given; pass one of them")
    if fps is not None:
        num_frames = _count_at(fps, total_frames=total_frames, video_fps=video_fps, profile=profile)
    if num_frames is None:
        return np.arange(total_frames, dtype=np.int64)
    if not 1 <= num_frames <= total_frames:
        raise InputError(
            f"{num_frames} frames were asked for, the video has {total_frames}; ask for 1 to {total_frames}, "
            "or for all of them with do_sample_frames=False"
        )
    if profile.frame_sampling == "integer":
        return np.arange(num_frames, dtype=np.int64) * total_frames // num_frames
    step = total_frames / num_frames
    return (np.arange(math.ceil(total_frames / step)) * step).astype(np.float32).astype(np.int64)


def frame_timestamps(frame_indices: Iterable[int], *, video_fps: float) -> tuple[float, ...]:
    """Seconds from the start of the video to each frame, index / rate. Source: HF `VideoMetadata.timestamps`."""
    return tuple(float(index / video_fps) for index in frame_indices)


def format_timestamp(seconds: float) -> str:
    """Write a time as the prompt does, `mm:ss` rounded down; minutes go on beyond 99.

    Source: transformers 5.24 `Gemma4UnifiedProcessor.replace_video_token`.
    """
    return f"{int(seconds // 60):02d}:{int(seconds % 60):02d}"


def _count_at(fps: float, *, total_frames: int, video_fps: float | None, profile: Profile) -> int:
    if video_fps is None:
        raise InputError(
            f"{fps} frames a second were asked for, but the video's own frame rate is unknown; give it in "
            "video_metadata, or ask for num_frames"
        )
    count = int(total_frames / video_fps * fps)
    return max(1, count) if profile.frame_sampling == "integer" else count
