"""Videos to the frames that the model sees, with the times that the prompt says; one frame is decoded at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.video.sampling import frame_timestamps, sample_frame_indices
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import VideoSize
from gemma4_mm.limits import Limits
from gemma4_mm.media import container
from gemma4_mm.media.access import DEFAULT_ACCESS, MediaAccess
from gemma4_mm.media.bounds import check_frames, check_seconds
from gemma4_mm.media.container import VideoHeader
from gemma4_mm.media.frames import Frames, as_frames
from gemma4_mm.media.image import ImageSource, open_image
from gemma4_mm.media.metadata import GivenMetadata, VideoMetadata, read_metadata
from gemma4_mm.media.source import Source, is_encoded, open_source
from gemma4_mm.releases import Profile

Timestamps = Literal["index", "presentation"]
Rotation = Literal["applied", "ignored"]


@dataclass(frozen=True, kw_only=True)
class FrameSampling:
    """How frames are chosen.

    Attributes:
        num_frames: frames to take, spread evenly; the video must have as many. None for all.
        fps: frames to take per second, instead of `num_frames`.
        do_sample_frames: take all frames if False, whatever else is said.
    """

    num_frames: int | None = None
    fps: float | None = None
    do_sample_frames: bool = True


DEFAULT_SAMPLING: Final = FrameSampling()


@dataclass(frozen=True, kw_only=True)
class VideoSource:
    """A video of which the frames to take are known, and none is decoded yet.

    Attributes:
        metadata: which frames of which video they are.
    """

    metadata: VideoMetadata
    _decode: Callable[[], Iterator[NDArray[np.uint8]]] | None

    @property
    def is_size_only(self) -> bool:
        """Whether this is a `VideoSize`, which serves plans and has no frames."""
        return self._decode is None

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Decode the frames one after the other, RGB, uint8 `(height, width, 3)` each; views of a caller's array.

        Raises:
            MediaError: the file is cut off or damaged.
        """
        if self._decode is None:
            raise InputError("a VideoSize has no frames; it serves plans only: give the video itself")
        return self._decode()


def open_video(
    value: Any,
    *,
    sampling: FrameSampling = DEFAULT_SAMPLING,
    video_metadata: Any = None,
    timestamps: Timestamps = "index",
    rotation: Rotation = "applied",
    label: str = "video",
    access: MediaAccess = DEFAULT_ACCESS,
) -> VideoSource:
    """Choose frames of one video: sample them by number or rate, or take all. They are decoded as they are asked for.

    A file is decoded from the last key frame before each frame taken, where that gives the same pixels as a decode from
    its start, and no other frame is kept. Its pixels equal those of transformers 5.24 `read_video_pyav`, turned as the
    file says; its own metadata is used and `video_metadata` is not, as in the reference. Frames decoded already may be
    an array `(frames, height, width, channels)` or `(frames, channels, height, width)` with 1 or 3 channels, a
    list of such frames or of Pillow images, or a single one. A list of paths, bytes or texts is a list of images, one
    per frame, which cannot be sampled.

    Args:
        value: a path, bytes, a file object, text (see `open_source`), decoded frames as above, or a `VideoSize`.
        sampling: how frames are chosen.
        video_metadata: what Hugging Face's `VideoMetadata` holds, for decoded frames: `total_num_frames`, `fps`,
            `duration`, `frames_indices`.
        timestamps: index / frame rate, as the reference writes them, or the times at which a file shows its frames,
            which differ where the frame rate varies.
        rotation: turn frames as the file's display matrix says, which the reference's own decoder (torchcodec 0.11 and
            later) does, or leave them as stored, as its PyAV reader does.
        label: what errors call the item.
        access: how it may be read.

    Raises:
        MediaError: not a video, without a picture, cut off or damaged.
        LimitError: over `limits`.
        InputError: more frames asked for than there are, frames of another dtype or shape, bad metadata, or a type
            that is no video.
    """
    chosen = _Sampling(asked=sampling, profile=access.profile, limits=access.limits)
    if isinstance(value, VideoSize):
        return VideoSource(metadata=_size_metadata(value, chosen, label=label), _decode=None)
    if is_encoded(value):
        source = open_source(value, label=label, limits=access.limits, allow_network=access.allow_network)
        header = container.read_header(source, limits=access.limits)
        metadata = _file_metadata(source, header, chosen, timestamps=timestamps, rotation=rotation)
        return VideoSource(
            metadata=metadata,
            _decode=partial(_file_frames, source, header, metadata.frame_indices, turns=_turns(header, rotation)),
        )
    frames = _decoded_frames(value, chosen, access=access, label=label)
    given = None if video_metadata is None else read_metadata(video_metadata, label=label)
    metadata = _frames_metadata(frames, given, chosen)
    taken = metadata.frame_indices if chosen.asked.do_sample_frames else range(len(frames))
    return VideoSource(metadata=metadata, _decode=partial(frames.take, taken))


def _file_frames(
    source: Source, header: VideoHeader, frame_indices: tuple[int, ...], *, turns: int
) -> Iterator[NDArray[np.uint8]]:
    for stored in container.decode_frames(source, frame_indices, header=header):
        yield np.ascontiguousarray(np.rot90(stored, turns))


@dataclass(frozen=True, kw_only=True)
class _Sampling:
    """How frames are chosen, and under which rule and bounds."""

    asked: FrameSampling
    profile: Profile
    limits: Limits

    def choose(self, *, total_frames: int, video_fps: float | None, name: str) -> tuple[int, ...]:
        """Indices of the frames to take, checked."""
        try:
            indices = sample_frame_indices(
                total_frames,
                num_frames=self.asked.num_frames if self.asked.do_sample_frames else None,
                fps=self.asked.fps if self.asked.do_sample_frames else None,
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


def _size_metadata(size: VideoSize, sampling: _Sampling, *, label: str) -> VideoMetadata:
    indices = sampling.choose(total_frames=size.total_frames, video_fps=size.fps, name=label)
    return VideoMetadata(
        total_frames=size.total_frames,
        fps=size.fps,
        fps_assumed=False,
        height_px=size.height_px,
        width_px=size.width_px,
        duration_s=size.total_frames / size.fps,
        frame_indices=indices,
        timestamps_s=frame_timestamps(indices, video_fps=size.fps),
    )


def _file_metadata(
    source: Source, header: VideoHeader, sampling: _Sampling, *, timestamps: Timestamps, rotation: Rotation
) -> VideoMetadata:
    indices = sampling.choose(total_frames=header.total_frames, video_fps=header.fps, name=source.name)
    fps = sampling.profile.unknown_fps if header.fps is None else header.fps
    times = frame_timestamps(indices, video_fps=fps)
    if timestamps == "presentation":
        shown = container.presentation_times(source, header=header)
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


def _decoded_frames(value: Any, sampling: _Sampling, *, access: MediaAccess, label: str) -> Frames:
    """Decoded frames of any form, and image files, which are decoded when they are taken."""
    if isinstance(value, list | tuple) and value and all(map(is_encoded, value)):
        if sampling.asked.do_sample_frames:
            raise InputError(
                f"{label} is a list of image files, which are all taken; pass do_sample_frames=False, or give the "
                "frames as Pillow images"
            )
        check_frames(len(value), name=label, limits=sampling.limits)
        value = [
            _ImageFile(open_image(item, label=f"{label}, frame {index}", access=access))
            for index, item in enumerate(value)
        ]
    return as_frames(value, limits=sampling.limits, label=label)


class _ImageFile:
    """An image file that looks like an array, and is decoded when it is made one."""

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, source: ImageSource) -> None:
        self.shape = (source.height_px, source.width_px, 3)
        self._source = source

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        rows = self._source.decode().rows(0, self.shape[0])
        if copy is None:  # numpy 1 does not take None
            return np.asarray(rows, dtype)
        return np.array(rows, dtype, copy=copy)


def _frames_metadata(frames: Frames, given: GivenMetadata | None, sampling: _Sampling) -> VideoMetadata:
    total_frames = len(frames) if given is None else given.total_frames
    known_fps = None if given is None else given.fps
    if sampling.asked.do_sample_frames:
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
    fps = sampling.profile.unknown_fps if known_fps is None else known_fps
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
