"""Videos: opened, then written frame by frame, all into one array or as a stream."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.outputs import DEFAULT_OUTPUTS, Outputs
from gemma4_mm.core.vision.geometry import fill_grid, plan_image
from gemma4_mm.core.vision.patches import encode_frames
from gemma4_mm.encode.access import Access, naming
from gemma4_mm.encode.cached import CachedVideo, KeptVideo
from gemma4_mm.encode.keys import find_file, frames_key
from gemma4_mm.errors import InputError
from gemma4_mm.execution import Execution
from gemma4_mm.layout import VideoPlan
from gemma4_mm.media.source import is_encoded
from gemma4_mm.media.video import VideoSource, open_video
from gemma4_mm.request.options import VideoOptions
from gemma4_mm.spec import PATCH_VALUES


class OpenedVideo(Protocol):
    """A video of which the frames to take are known: a stream, a size without frames, or a cache's entry."""

    @property
    def plan(self) -> VideoPlan:
        """Grid, frames and timestamps."""
        ...

    @property
    def is_size_only(self) -> bool:
        """Whether it can be laid out and not written."""
        ...

    def write(self, pixels: NDArray[Any], positions: NDArray[np.int64]) -> None:
        """Write all frames into `(frames, max_soft_tokens, …)` of a batch, padding rows too."""
        ...


@dataclass(frozen=True, kw_only=True)
class EncodedFrame:
    """One sampled frame of a video, as the model takes it.

    Attributes:
        index: the frame, counted in the source.
        timestamp_s: its time in seconds, as the prompt tells it.
        pixel_values: float32 `(max_soft_tokens, 6912)`, or of the dtype asked for; zero rows after the frame's own.
        position_ids: int64 `(max_soft_tokens, 2)`, -1 in those rows.
        n_tokens: the frame's own rows.
    """

    index: int
    timestamp_s: float
    pixel_values: NDArray[Any]
    position_ids: NDArray[np.int64]
    n_tokens: int

    @property
    def patches(self) -> NDArray[Any]:
        """View of the frame's own rows, `(n_tokens, 6912)`."""
        return self.pixel_values[: self.n_tokens]


@dataclass(frozen=True, kw_only=True)
class VideoStream:
    """The sampled frames of one video, decoded and encoded as they are asked for; can be iterated any number of times.

    Joined, the frames' `pixel_values` and `position_ids` are `pixel_values_videos` and `video_position_ids` of a
    processor call, in every bit.

    Attributes:
        plan: grid, frame indices and timestamps; known before a frame is decoded.
        max_soft_tokens: rows of each frame.
    """

    plan: VideoPlan
    max_soft_tokens: int
    _source: VideoSource
    _execution: Execution
    _dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))

    @property
    def is_size_only(self) -> bool:
        """Whether this is a `VideoSize`, which has no frames."""
        return self._source.is_size_only

    def __len__(self) -> int:
        """Sampled frames."""
        return len(self.plan.frame_indices)

    def __iter__(self) -> Iterator[EncodedFrame]:
        """Encode the frames in order, as many at a time as there are threads, each into memory of its own.

        Raises:
            MediaError: the file is cut off or damaged.
        """
        frames = self._source.frames()
        named = zip(self.plan.frame_indices, self.plan.timestamps_s, strict=True)
        while at_once := list(islice(named, self._execution.threads)):
            pixels = np.empty((len(at_once), self.max_soft_tokens, PATCH_VALUES), self._dtype)
            positions = np.empty((len(at_once), self.max_soft_tokens, 2), np.int64)
            self._encode(islice(frames, len(at_once)), pixels, positions)
            for (index, timestamp_s), rows, places in zip(at_once, pixels, positions, strict=True):
                yield EncodedFrame(
                    index=index,
                    timestamp_s=timestamp_s,
                    pixel_values=rows,
                    position_ids=places,
                    n_tokens=self.plan.grid.n_tokens,
                )

    def write(self, pixels: NDArray[Any], positions: NDArray[np.int64]) -> None:
        """Encode all frames straight into `(frames, max_soft_tokens, …)` of a batch; errors are those of iterating."""
        self._encode(self._source.frames(), pixels, positions)

    def _encode(self, frames: Iterator[NDArray[np.uint8]], pixels: NDArray[Any], positions: NDArray[np.int64]) -> None:
        encode_frames(frames, pixels, grid=self.plan.grid, execution=self._execution)
        fill_grid(self.plan.grid, pixels=pixels, positions=positions)


def stream_video(
    value: Any, *, options: VideoOptions, access: Access, outputs: Outputs = DEFAULT_OUTPUTS, label: str = "video"
) -> VideoStream:
    """Open one video and plan its frames; errors are those of `open_videos`."""
    given = _metadata_per_video(options.video_metadata, n_videos=1)
    source = open_video(value, sampling=options.sampling, video_metadata=given[0], label=label, access=access)
    return _stream(source, options=options, access=access, label=label, dtype=outputs.dtype)


def open_videos(values: Sequence[Any], *, options: VideoOptions, access: Access) -> tuple[OpenedVideo, ...]:
    """Open videos, in order; errors name the item.

    Raises:
        InputError: what is no video, frames that are not there, or a size that the reference would refuse.
        MediaError: a file without a readable header.
        LimitError: over the limits.
    """
    if not values:
        return ()
    given = _metadata_per_video(options.video_metadata, n_videos=len(values))

    def open_one(value: Any, metadata: Any, label: str) -> OpenedVideo:
        key_options = {"max_soft_tokens": options.max_soft_tokens, **asdict(options.sampling)}
        found = None
        if access.cache is not None and is_encoded(value):
            found = find_file(value, kind="video", options=key_options, label=label, access=access)
            if found.entry is not None:
                return CachedVideo(entry=found.entry)
        source = open_video(
            value if found is None else found.source,
            sampling=options.sampling,
            video_metadata=metadata,
            label=label,
            access=access,
        )
        stream = _stream(source, options=options, access=access, label=label)
        if access.cache is None or stream.is_size_only:
            return stream
        if found is not None:
            return KeptVideo(video=stream, find_key=lambda: found.key, still=found.still_holds, cache=access.cache)
        return KeptVideo(
            video=stream, find_key=lambda: frames_key(source, options=key_options, access=access), cache=access.cache
        )

    return tuple(
        open_one(value, metadata, f"video {item}")
        for item, (value, metadata) in enumerate(zip(values, given, strict=True))
    )


def write_videos(videos: Sequence[OpenedVideo], pixels: NDArray[Any], positions: NDArray[np.int64]) -> None:
    """Write the frames of all videos, one after the other.

    Args:
        videos: opened.
        pixels: `(frames of all videos, max_soft_tokens, 6912)`.
        positions: int64 `(frames, max_soft_tokens, 2)`.
    """
    stop = 0
    for video in videos:
        start, stop = stop, stop + len(video.plan.frame_indices)
        video.write(pixels[start:stop], positions[start:stop])


def _stream(
    source: VideoSource, *, options: VideoOptions, access: Access, label: str, dtype: Any = np.float32
) -> VideoStream:
    metadata = source.metadata
    with naming(label):
        grid = plan_image(
            height_px=metadata.height_px, width_px=metadata.width_px, max_soft_tokens=options.max_soft_tokens
        )
    return VideoStream(
        plan=VideoPlan(grid=grid, frame_indices=metadata.frame_indices, timestamps_s=metadata.timestamps_s),
        max_soft_tokens=options.max_soft_tokens,
        _source=source,
        _execution=access.execution,
        _dtype=np.dtype(dtype),
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
