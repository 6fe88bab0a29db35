"""The one module that talks to PyAV: a video file's header, its packet times, and chosen frames of it."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.errors import MediaError
from gemma4_mm.limits import Limits
from gemma4_mm.media.bounds import check_pixels, check_seconds
from gemma4_mm.media.packets import Packets, Run, plan_runs
from gemma4_mm.media.source import Source
from gemma4_mm.optional import require

# Demuxers that may open a file. Not the playlists (HLS, DASH, concat), which would make FFmpeg open others.
_FORMATS: Final = "mov,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf,gif,ivf,mxf,h264,hevc,m4v"
# Codecs whose key frames are points at which decoding may begin, exactly: no later frame looks at an earlier one.
_SELF_CONTAINED_KEYS: Final = frozenset({"av1", "mpeg4", "vp8", "vp9"})
# Codecs whose key frames are such points only if they hold a unit of these types. H.264: IDR, since files mark
# recovery points as key frames too, some of which recover late. HEVC: IRAP, whose leading frames are shown before it.
# MPEG-2: a sequence header, without which quantiser matrices of skipped frames would still hold.
_KEY_UNITS: Final[Mapping[str, str]] = {"h264": "5", "hevc": "16-21", "mpeg2video": "179"}
_QUARTER_TURN_DEG: Final = 90
_LENIENT_METADATA_MAJOR: Final = 19  # the PyAV release that dropped `metadata_errors` of `av.open`
_MICROSECONDS: Final = 1_000_000  # unit of a container's duration


@dataclass(frozen=True, kw_only=True)
class VideoHeader:
    """What a video file says of itself.

    Attributes:
        total_frames: frames that decoding gives, without those that an edit list hides.
        fps: average frame rate; None where it is unknown.
        duration_s: frames / rate; None where the rate is unknown.
        height_px: height of a stored frame.
        width_px: width of a stored frame.
        quarter_turns: counter-clockwise quarter turns from the stored to the shown frame, 0 to 3.
        packets: the file's packets where they had to be read to count its frames; None where an index counts them.
    """

    total_frames: int
    fps: float | None
    duration_s: float | None
    height_px: int
    width_px: int
    quarter_turns: int
    packets: Packets | None


def read_header(source: Source, *, limits: Limits) -> VideoHeader:
    """Read the header. One frame is decoded, since PyAV tells the rotation of frames only.

    Raises:
        MediaError: not a video, or without a picture.
        LimitError: over `limits`, found before that frame is decoded.
    """
    with _opened(source) as video:
        stream, container = video.stream, video.container
        check_pixels(height_px=stream.height, width_px=stream.width, name=source.name, limits=limits)
        if container.duration is not None:
            check_seconds(container.duration / _MICROSECONDS, name=source.name, limits=limits)
        total_frames = _count_by_index(video)
        packets = None
        if not total_frames:
            packets = _read_packets(source)
            total_frames = packets.n_frames
        rate = stream.average_rate or None  # an exact fraction
        frame = next(container.decode(stream), None)
        if frame is None:
            raise MediaError(f"{source.name} holds no frame that can be decoded; it is cut off or damaged; replace it")
        check_pixels(height_px=frame.height, width_px=frame.width, name=source.name, limits=limits)
        header = VideoHeader(
            total_frames=total_frames,
            fps=None if rate is None else float(rate),
            duration_s=None if rate is None else float(total_frames / rate),
            height_px=frame.height,
            width_px=frame.width,
            quarter_turns=round(frame.rotation / _QUARTER_TURN_DEG) % 4,
            packets=packets,
        )
    if header.duration_s is not None:
        check_seconds(header.duration_s, name=source.name, limits=limits)
    return header


def presentation_times(source: Source, *, header: VideoHeader) -> tuple[float, ...]:
    """Return when each frame is shown, in seconds after the first one, from the packets alone.

    Raises:
        MediaError: the file holds no such times.
    """
    packets = header.packets or _read_packets(source)
    if not packets.complete:
        raise MediaError(f"{source.name} holds no presentation times; use timestamps='index'")
    times = [float(time * packets.time_base) for time in packets.frame_times.tolist()]
    return tuple(time - times[0] for time in times)


def decode_frames(source: Source, frame_indices: Sequence[int], *, header: VideoHeader) -> Iterator[NDArray[np.uint8]]:
    """Decode chosen frames to RGB, uint8 `(height, width, 3)` each, as stored, one at a time.

    Frames are counted in the order of decoding, as transformers 5.24 `read_video_pyav` does. From a key frame before
    each chosen frame on all are decoded, and dropped at once; what lies before, only where no such key frame is found.
    A damaged frame that need not be decoded is not noticed.

    Args:
        source: the file.
        frame_indices: non-decreasing.
        header: from `read_header`.

    Raises:
        MediaError: the file ends before the last chosen frame, or is damaged, or its frames change their size.
    """
    repeats = Counter(frame_indices)
    n_found = 0
    for index, frame in _chosen_frames(source, tuple(repeats), header=header):
        if (frame.height, frame.width) != (header.height_px, header.width_px):
            raise MediaError(
                f"{source.name} changes its size from {header.width_px}×{header.height_px} to {frame.width}×"
                f"{frame.height} px at frame {index}; scale it to one size first"
            )
        n_found += 1
        rgb = frame.to_ndarray(format="rgb24")
        for _ in range(repeats[index]):
            yield rgb
    if n_found < len(repeats):
        raise MediaError(
            f"{source.name} should have {header.total_frames} frames, but ends before frame {max(repeats)}; it is cut "
            "off or damaged; replace it, or write it again with ffmpeg"
        )


@dataclass(frozen=True, kw_only=True)
class _OpenVideo:
    container: Any
    stream: Any


@contextmanager
def _opened(source: Source) -> Iterator[_OpenVideo]:
    """Open a file and find its picture; what PyAV raises becomes a MediaError."""
    av = require("av", extra="video")
    with ExitStack() as stack:
        # The prefix keeps FFmpeg from taking a file name such as "concat:a|b" for a protocol.
        file = stack.enter_context(source.open()) if source.path is None else f"file:{source.path}"
        try:
            container = stack.enter_context(av.open(file, options={"format_whitelist": _FORMATS}, **_metadata_rule()))
            yield _OpenVideo(container=container, stream=_find_stream(container, name=source.name))
        except av.FFmpegError as error:
            raise MediaError(
                f"{source.name} is not a video that can be read ({error.strerror}); it is cut off, damaged or of "
                "another kind; give MP4, MOV, MKV, WebM or AVI"
            ) from None


@cache
def _metadata_rule() -> dict[str, str]:
    """Arguments by which titles that are not UTF-8 do not keep a file from being opened.

    PyAV 19 reads them so by itself, and has no argument for it.
    """
    major = int(require("av", extra="video").__version__.split(".")[0])
    return {"metadata_errors": "replace"} if major < _LENIENT_METADATA_MAJOR else {}


def _find_stream(container: Any, *, name: str) -> Any:
    """The first video stream that is not the cover of a song."""
    cover = require("av.stream", extra="video").Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover:
            if stream.codec_context is None:
                raise MediaError(f"{name} has a picture of a codec that FFmpeg does not know; convert it to H.264")
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise MediaError(f"{name} has no video stream (it holds: {kinds}); give a file with a picture")


def _count_by_index(video: _OpenVideo) -> int:
    """Frames by the header and its index; 0 where the header does not know."""
    n_frames: int = video.stream.frames
    entries = video.stream.index_entries
    # The index of an MP4 or MOV has gone through its edit list: groups that are hidden whole are not in it.
    if n_frames and len(entries) and video.container.format.name.startswith("mov"):
        n_frames = sum(not entry.is_discard for entry in entries)
    return n_frames


def _read_packets(source: Source) -> Packets:
    """List the packets of a file: a pass without decoding."""
    times, shown, entries = array("q"), bytearray(), bytearray()
    complete = uniform = True
    with _opened(source) as video:
        is_entry = _entry_rule(video.stream)
        for packet in video.container.demux(video.stream):
            if not packet.size:
                continue
            complete &= packet.pts is not None
            # such a packet must not be skipped: the decoder's parameters change with it
            uniform &= not (times and packet.has_sidedata("new_extradata"))
            times.append(packet.pts or 0)
            shown.append(not packet.is_discard)
            entries.append(is_entry(packet))
        time_base = video.stream.time_base
    return Packets(
        times=np.frombuffer(times, np.int64),
        shown=np.frombuffer(shown, np.bool_),
        entries=np.frombuffer(entries, np.bool_) & uniform,
        time_base=time_base,
        complete=complete,
    )


def _entry_rule(stream: Any) -> Callable[[Any], bool]:
    """Whether decoding may begin at a packet, by what the codec promises of its key frames."""
    codec = stream.codec_context.codec
    if codec.intra_only:
        return lambda _packet: True
    if codec.canonical_name in _SELF_CONTAINED_KEYS:
        return lambda packet: bool(packet.is_keyframe)
    if codec.canonical_name not in _KEY_UNITS:
        return lambda _packet: False
    av, bitstream = require("av", extra="video"), require("av.bitstream", extra="video")
    types = _KEY_UNITS[codec.canonical_name]

    def holds_unit(packet: Any) -> bool:
        try:
            return bool(packet.is_keyframe and units.filter(packet))
        except av.FFmpegError:
            return False  # units that cannot be told apart: the decoder may still make something of them

    try:
        units = bitstream.BitStreamFilterContext(f"filter_units=pass_types={types}", stream)
    except av.FFmpegError:
        return lambda _packet: False
    return holds_unit


def _chosen_frames(source: Source, indices: Sequence[int], *, header: VideoHeader) -> Iterator[tuple[int, Any]]:
    """Decoded frames with their indices, increasing."""
    n_found = 0
    if indices[-1] >= len(indices):  # some are not wanted
        packets = header.packets or _read_packets(source)
        runs = plan_runs(packets, indices, total_frames=header.total_frames)
        for found in _decode_runs(source, runs, frame_times=packets.frame_times):
            n_found += 1
            yield found
    if rest := frozenset(indices[n_found:]):
        with _opened(source) as video:
            video.stream.thread_type = "AUTO"
            for index, frame in enumerate(islice(video.container.decode(video.stream), max(rest) + 1)):
                if index in rest:
                    yield index, frame


def _decode_runs(source: Source, runs: Sequence[Run], *, frame_times: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
    """Decode each run on its own; end early where the decoder gives other frames than the packets announced."""
    with _opened(source) as video:
        video.stream.thread_type = "AUTO"
        packets = (packet for packet in video.container.demux(video.stream) if packet.size)
        position = 0
        for run in runs:
            within = islice(packets, run.start - position, run.stop - position)
            position = run.stop
            index, wanted = run.first_frame, frozenset(run.frames)
            for frame in _decode_alone(video.stream.codec_context, within):
                if index > run.frames[-1]:
                    continue  # the last packets' other frames, perhaps with gaps between them
                if index == run.first_frame and frame.pts is not None and frame.pts < frame_times[index]:
                    continue  # shown before the run's first frame; it may lack what it looks at
                if frame.pts != frame_times[index]:
                    return
                if index in wanted:
                    yield index, frame
                index += 1


def _decode_alone(decoder: Any, packets: Iterable[Any]) -> Iterator[Any]:
    """Decode packets as if there were no others."""
    decoder.flush_buffers()
    for packet in packets:
        yield from decoder.decode(packet)
    yield from decoder.decode(None)
