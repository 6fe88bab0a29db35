"""Videos to the frames that the model sees, with the times that the prompt says; only those frames are kept."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.sampling import frame_timestamps, sample_frame_indices
from gemma4_mm.errors import InputError
from gemma4_mm.limits import Limits
from gemma4_mm.media import container
from gemma4_mm.media.bounds import DEFAULT_LIMITS, check_frames, check_seconds
from gemma4_mm.media.container import VideoHeader
from gemma4_mm.media.frames import Frames, as_frames
from gemma4_mm.media.image import load_image
from gemma4_mm.media.metadata import GivenMetadata, VideoMetadata, read_metadata
from gemma4_mm.media.source import Source, is_encoded, open_source
from gemma4_mm.spec import DEFAULT_FPS, DEFAULT_PROFILE, Profile

Timestamps = Literal["index", "presentation"]
Rotation = Literal["applied", "ignored"]


@dataclass(frozen=True, kw_only=True)
class Video:
    """The frames taken of one video.

    Attributes:
        frames: RGB, uint8 `(height, width, 3)` each, all of one size; views of the caller's array where one was given.
        metadata: which frames of which video they are.
    """

    frames: tuple[NDArray[np.uint8], ...]
    metadata: VideoMetadata


def load_video(
    value: Any,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    do_sample_frames: bool = True,
    video_metadata: Any = None,
    timestamps: Timestamps = "index",
    rotation: Rotation = "applied",
    profile: Profile = DEFAULT_PROFILE,
    limits: Limits = DEFAULT_LIMITS,
    allow_network: bool = False,
    label: str = "video",
) -> Video:
    """Take frames of one video: sample them by number or rate, or take all.

    A file is decoded up to the last frame taken, and no other frame is kept. Its pixels equal those of transformers
    5.24 `read_video_pyav`, turned as the file says; its own metadata is used and `video_metadata` is not, as in the
    reference. Frames that are decoded already may be an array `(frames, height, width, channels)` or `(frames,
    channels, height, width)` with 1 or 3 channels, a list of such frames or of Pillow images, or a single one. A list
    of paths, bytes or texts is a list of images, one per frame, which cannot be sampled.

    Args:
        value: a path, bytes, a file object, text (see `open_source`), or decoded frames as above.
        num_frames: frames to take, spread evenly; the video must have as many.
        fps: frames to take per second, instead of `num_frames`.
        do_sample_frames: take all frames if False.
        video_metadata: what Hugging Face's `VideoMetadata` holds, for decoded frames: `total_num_frames`, `fps`,
            `duration`, `frames_indices`.
        timestamps: index / frame rate, as the reference writes them, or the times at which a file shows its frames,
            which differ where the frame rate varies.
        rotation: turn frames as the file's display matrix says, which the reference's own decoder (torchcodec 0.11 and
            later) does, or leave them as stored, as its PyAV reader does.
        profile: names the rule of sampling.
        limits: bounds, checked by the header before frames are decoded.
        allow_network: whether an http(s) URL may be fetched.
        label: what errors call the item.

    Raises:
        MediaError: not a video, without a picture, cut off or damaged.
        LimitError: over `limits`.
        InputError: more frames asked for than there are, frames of another dtype or shape, bad metadata, or a type
            that is no video.
    """
    sampling = _Sampling(num_frames=num_frames, fps=fps, enabled=do_sample_frames, profile=profile, limits=limits)
    if is_encoded(value):
        source = open_source(value, label=label, limits=limits, allow_network=allow_network)
        header = container.read_header(source, limits=limits)
        metadata = _file_metadata(source, header, sampling, timestamps=timestamps, rotation=rotation)
        stored = container.decode_frames(source, metadata.frame_indices, header=header)
        turns = _turns(header, rotation)
        return Video(frames=tuple(np.ascontiguousarray(np.rot90(frame, turns)) for frame in stored), metadata=metadata)
    frames = _decoded_frames(value, sampling, allow_network=allow_network, label=label)
    given = None if video_metadata is None else read_metadata(video_metadata, label=label)
    metadata = _frames_metadata(frames, given, sampling)
    taken = metadata.frame_indices if sampling.enabled else range(len(frames))
    return Video(frames=frames.take(taken), metadata=metadata)


def probe_video(
    value: Any,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    do_sample_frames: bool = True,
    video_metadata: Any = None,
    timestamps: Timestamps = "index",
    rotation: Rotation = "applied",
    profile: Profile = DEFAULT_PROFILE,
    limits: Limits = DEFAULT_LIMITS,
    allow_network: bool = False,
    label: str = "video",
) -> VideoMetadata:
    """Return the metadata that `load_video` will give; of a file, no more than one frame is decoded for it.

    Arguments and errors are the same.
    """
    sampling = _Sampling(num_frames=num_frames, fps=fps, enabled=do_sample_frames, profile=profile, limits=limits)
    if is_encoded(value):
        source = open_source(value, label=label, limits=limits, allow_network=allow_network)
        header = container.read_header(source, limits=limits)
        return _file_metadata(source, header, sampling, timestamps=timestamps, rotation=rotation)
    frames = _decoded_frames(value, sampling, allow_network=allow_network, label=label)
    given = None if video_metadata is None else read_metadata(video_metadata, label=label)
    return _frames_metadata(frames, given, sampling)


@dataclass(frozen=True, kw_only=True)
class _Sampling:
    """How frames are chosen."""

    num_frames: int | None
    fps: float | None
    enabled: bool
    profile: Profile
    limits: Limits

    def choose(self, *, total_frames: int, video_fps: float | None, name: str) -> tuple[int, ...]:
        """Indices of the frames to take, checked."""
        try:
            indices = sample_frame_indices(
                total_frames,
                num_frames=self.num_frames if self.enabled else None,
                fps=self.fps if self.enabled else None,
                video_fps=video_fps,
                profile=self.profile,
            )
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        if len(indices) == 0:
            raise InputError(f"{name} has no frames; give at least one")
        if indices[-1] >= total_frames:
            raise InputError(
                f"{name}: the sampling of {self.profile.name} asks for frame {indices[-1]} of {total_frames}; ask for "
                "another num_frames, or use a profile of 5.18 or later"
            )
        check_frames(len(indices), name=name, limits=self.limits)
        return tuple(indices.tolist())


def _file_metadata(
    source: Source, header: VideoHeader, sampling: _Sampling, *, timestamps: Timestamps, rotation: Rotation
) -> VideoMetadata:
    indices = sampling.choose(total_frames=header.total_frames, video_fps=header.fps, name=source.name)
    fps = DEFAULT_FPS if header.fps is None else header.fps
    times = frame_timestamps(indices, video_fps=fps)
    if timestamps == "presentation":
        shown = container.presentation_times(source)
        times = tuple(shown[index] for index in indices)
    height_px, width_px = header.height_px, header.width_px
    if _turns(header, rotation) % 2:
        height_px, width_px = width_px, height_px
    return VideoMetadata(
        total_frames=header.total_frames,
        fps=fps,
        fps_assumed=header.fps is None,
        height_px=height_px,
        width_px=width_px,
        duration_s=header.duration_s,
        frame_indices=indices,
        timestamps_s=times,
    )


def _turns(header: VideoHeader, rotation: Rotation) -> int:
    return header.quarter_turns if rotation == "applied" else 0


def _decoded_frames(value: Any, sampling: _Sampling, *, allow_network: bool, label: str) -> Frames:
    """Decoded frames of any form; a list of image files is decoded here."""
    if isinstance(value, list | tuple) and value and all(map(is_encoded, value)):
        if sampling.enabled:
            raise InputError(
                f"{label} is a list of image files, which are all taken; pass do_sample_frames=False, or give the "
                "frames as Pillow images"
            )
        check_frames(len(value), name=label, limits=sampling.limits)
        images = [
            load_image(
                item,
                profile=sampling.profile,
                limits=sampling.limits,
                allow_network=allow_network,
                label=f"{label}, frame {index}",
            )
            for index, item in enumerate(value)
        ]
        value = [image.rows(0, image.height_px) for image in images]
    return as_frames(value, limits=sampling.limits, label=label)


def _frames_metadata(frames: Frames, given: GivenMetadata | None, sampling: _Sampling) -> VideoMetadata:
    total_frames = len(frames) if given is None else given.total_frames
    known_fps = None if given is None else given.fps
    if sampling.enabled:
        indices = sampling.choose(total_frames=total_frames, video_fps=known_fps, name=frames.label)
        if indices[-1] >= len(frames):
            raise InputError(
                f"{frames.label} has {len(frames)} frames, but its video_metadata says {total_frames}; give all of "
                "them, or pass do_sample_frames=False with frames_indices"
            )
        if len(indices) == 1 and sampling.profile.frame_sampling == "float":
            raise InputError(
                f"{frames.label}: {sampling.profile.name} fails where one frame of an array is sampled; sample two, "
                "pass do_sample_frames=False, or use a profile of 5.18 or later"
            )
    else:
        indices = _given_indices(frames, given)
        check_frames(len(indices), name=frames.label, limits=sampling.limits)
    if known_fps is not None:
        check_seconds(total_frames / known_fps, name=frames.label, limits=sampling.limits)
    fps = DEFAULT_FPS if known_fps is None else known_fps
    return VideoMetadata(
        total_frames=total_frames,
        fps=fps,
        fps_assumed=known_fps is None,
        height_px=frames.height_px,
        width_px=frames.width_px,
        duration_s=None if given is None else given.duration_s,
        frame_indices=indices,
        timestamps_s=frame_timestamps(indices, video_fps=fps),
    )


def _given_indices(frames: Frames, given: GivenMetadata | None) -> tuple[int, ...]:
    """Indices of frames that were sampled before: the caller's word, or all in a row."""
    if given is None:
        return tuple(range(len(frames)))
    if given.frame_indices is None or len(given.frame_indices) != len(frames):
        count = "no" if given.frame_indices is None else len(given.frame_indices)
        raise InputError(
            f"{frames.label} has {len(frames)} frames, but its video_metadata holds {count} frames_indices; without "
            "sampling, they tell when each frame is shown: give one per frame"
        )
    return given.frame_indices
