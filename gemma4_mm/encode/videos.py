"""Videos to merged patches, frame by frame: all into one array, or as a stream."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.outputs import DEFAULT_OUTPUTS, Outputs
from gemma4_mm.core.video.sampling import frame_timestamps, sample_frame_indices
from gemma4_mm.core.vision.geometry import plan_image, position_ids
from gemma4_mm.core.vision.patches import encode_frames
from gemma4_mm.encode.access import Access, Encoded, naming
from gemma4_mm.encode.items import EncodedVideo
from gemma4_mm.errors import InputError
from gemma4_mm.execution import Execution
from gemma4_mm.inputs import VideoSize
from gemma4_mm.layout import VideoPlan
from gemma4_mm.media.metadata import VideoMetadata
from gemma4_mm.media.video import VideoSource, open_video, probe_video
from gemma4_mm.options import VideoOptions
from gemma4_mm.spec import PATCH_VALUES


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
        grid = self.plan.grid
        encode_frames(frames, pixels, grid=grid, execution=self._execution)
        pixels[:, grid.n_tokens :] = 0
        positions[:, : grid.n_tokens] = position_ids(grid)
        positions[:, grid.n_tokens :] = -1


def stream_video(
    value: Any, *, options: VideoOptions, access: Access, outputs: Outputs = DEFAULT_OUTPUTS, label: str = "video"
) -> VideoStream:
    """Open one video and plan its frames; errors are those of `encode_videos`."""
    given = metadata_per_video(options.video_metadata, n_videos=1)
    return _open_stream(value, given[0], options=options, access=access, outputs=outputs, label=label)


def encode_videos(
    values: Sequence[Any], *, options: VideoOptions, access: Access, outputs: Outputs = DEFAULT_OUTPUTS
) -> Encoded[VideoPlan]:
    """Decode the sampled frames of videos, one at a time for each thread, and write each into its rows of one array.

    Returns:
        `pixel_values_videos` `(frames of all videos, max_soft_tokens, 6912)` of `outputs.dtype`, `video_position_ids`
        int64 `(frames, max_soft_tokens, 2)`, `num_frames_per_video` int64 `(videos,)`. Under a profile with the stacked
        layout the first two have the shape `(videos, frames, …)` and the last is not there.
    """
    if not values:
        return Encoded()
    given = metadata_per_video(options.video_metadata, n_videos=len(values))
    streams = [
        value
        if isinstance(value, EncodedVideo)
        else _open_stream(value, given[item], options=options, access=access, outputs=outputs, label=f"video {item}")
        for item, value in enumerate(values)
    ]
    counts = [len(stream) for stream in streams]
    stacked = access.profile.video_layout == "stacked"
    if stacked and len(set(counts)) > 1:
        raise InputError(
            f"videos of {counts} frames cannot be stacked, as {access.profile.name} stacks them; sample equally many "
            "frames or use a later profile"
        )
    shape = (len(counts), counts[0]) if stacked else (sum(counts),)
    pixels = outputs.allocate("pixel_values_videos", (*shape, options.max_soft_tokens, PATCH_VALUES))
    positions = outputs.allocate("video_position_ids", (*shape, options.max_soft_tokens, 2), np.int64)
    frames_of_all = pixels.reshape(-1, *pixels.shape[-2:]), positions.reshape(-1, *positions.shape[-2:])
    valid_rows, stop = [], 0
    for stream in streams:
        start, stop = stop, stop + len(stream)
        rows, places = (frames[start:stop] for frames in frames_of_all)
        stream.write(rows, places)
        valid_rows.append(int((places[..., 0] >= 0).sum()))
    tensors: dict[str, NDArray[Any]] = {"pixel_values_videos": pixels, "video_position_ids": positions}
    if not stacked:
        tensors["num_frames_per_video"] = np.array(counts, np.int64)
    return Encoded(
        tensors=tensors,
        plans=tuple(stream.plan for stream in streams),
        valid_rows=valid_rows,
    )


def measure_videos(values: Sequence[Any], *, options: VideoOptions, access: Access) -> tuple[VideoPlan, ...]:
    """Plan videos from their headers or `VideoSize` alone."""
    if not values:
        return ()
    given = metadata_per_video(options.video_metadata, n_videos=len(values))
    plans = []
    for item, value in enumerate(values):
        label = f"video {item}"
        if isinstance(value, VideoSize):
            plans.append(_plan_size(value, label=label, options=options, access=access))
            continue
        metadata = probe_video(
            value,
            **sampling_arguments(options),
            video_metadata=given[item],
            profile=access.profile,
            **access.arguments(label),
        )
        plans.append(_plan(metadata, label=label, options=options))
    return tuple(plans)


def _open_stream(
    value: Any, given: Any, *, options: VideoOptions, access: Access, outputs: Outputs, label: str
) -> VideoStream:
    source = open_video(
        value, **sampling_arguments(options), video_metadata=given, profile=access.profile, **access.arguments(label)
    )
    return VideoStream(
        plan=_plan(source.metadata, label=label, options=options),
        max_soft_tokens=options.max_soft_tokens,
        _source=source,
        _execution=access.execution,
        _dtype=outputs.dtype,
    )


def sampling_arguments(options: VideoOptions) -> dict[str, Any]:
    """Keyword arguments by which `media.video` chooses frames."""
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


def metadata_per_video(given: Any, *, n_videos: int) -> list[Any]:
    """One `video_metadata` entry per video; a nested list is flattened, as the reference does."""
    if given is None:
        return [None] * n_videos
    entries = list(given) if isinstance(given, list | tuple) else [given]
    if entries and isinstance(entries[0], list | tuple):
        entries = [entry for per_prompt in entries for entry in per_prompt]
    if len(entries) != n_videos:
        raise InputError(f"{n_videos} videos but {len(entries)} video_metadata entries; pass one entry per video")
    return entries
