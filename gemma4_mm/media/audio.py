"""Audio to 16 kHz mono samples: files through soundfile and soxr, arrays as they are."""

import io
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.audio.waveform import average_channels
from gemma4_mm.errors import InputError, MediaError
from gemma4_mm.inputs import AudioLength
from gemma4_mm.limits import Limits
from gemma4_mm.media.access import DEFAULT_ACCESS, MediaAccess
from gemma4_mm.media.bounds import check_seconds
from gemma4_mm.media.quiet import ignore_decoder_notes
from gemma4_mm.media.source import Source, is_encoded, open_source
from gemma4_mm.optional import require
from gemma4_mm.spec import SAMPLE_RATE_HZ

IntegerSamples = Literal["error", "scale", "cast"]
_BLOCK_SAMPLES: Final = 1 << 16  # 256 KiB: much less would spend its time on calls, more would leave the cache
# libsndfile's log of a header, "data : 4294967295 (should be 1600)". A missing padding byte is no damage.
_CORRECTED_SIZE: Final = re.compile(r": (\d+) \(should be (\d+)\)")
_PADDING_BYTES: Final = 1
_UNKNOWN_SIZE: Final = 0x7FFF_F000  # programs that write to a pipe put 0x7FFFFFFF or 0xFFFFFFFF, less a header, for it
_MPEG: Final = "MPEG_LAYER"  # how libsndfile's names of MP3 and its siblings begin, in files of their own or in WAV
_ID3_BYTES: Final = 10  # of a tag's header, which tells the length of the tag
_MPEG_HEADER_BYTES: Final = 4096  # a first frame, and bytes before it
_SIGNED_BITS: Final = {"int8": 8, "int16": 16, "int32": 32}


@dataclass(frozen=True, kw_only=True)
class AudioSource:
    """An audio of which the length is known, and nothing is decoded yet.

    Attributes:
        n_samples: mono samples at the rate asked for.
    """

    n_samples: int
    _read: Callable[[], Iterator[NDArray[np.float32]]] | None

    @property
    def is_size_only(self) -> bool:
        """Whether this is an `AudioLength`, which serves plans and has no samples."""
        return self._read is None

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Decode block by block, float32 `(samples,)` each, some 256 KiB at a time, `n_samples` in all.

        A block may be a view of a caller's array.

        Raises:
            MediaError: the file is cut off or damaged, or holds NaN or infinite samples.
            InputError: an array that holds them.
        """
        if self._read is None:
            raise InputError("an AudioLength has no samples; it serves plans only: give the audio itself")
        return self._read()


def open_audio(
    value: Any,
    *,
    rate_hz: int = SAMPLE_RATE_HZ,
    integer_samples: IntegerSamples = "error",
    label: str = "audio",
    access: MediaAccess = DEFAULT_ACCESS,
) -> AudioSource:
    """Find the length of one audio item, which is decoded to mono samples at `rate_hz` as they are asked for.

    Files are averaged over their channels, resampled by soxr (HQ) and padded or cut to ceil(n · rate_hz / rate)
    samples, which equals `librosa.load(path, sr=rate_hz)`. Source: transformers 5.24 `audio_utils.load_audio` with
    backend "soundfile". Resampling in blocks gives what resampling at once does, in every bit. Arrays and lists of
    numbers are taken as mono at `rate_hz`, in any amplitude; the reference never resamples them either.

    The length is the header's. MPEG audio whose header does not tell it is decoded once to count it.

    Args:
        value: a path, bytes, a file object, text (see `open_source`), one row of samples, or an `AudioLength`.
        rate_hz: rate of the samples returned.
        integer_samples: integer arrays are an error, divided by their full scale to -1…1, or cast without scaling.
            Casting is what the reference does, which makes int16 audio 32,768 times too loud.
        label: what errors call the item.
        access: how it may be read.

    Raises:
        MediaError: not audio, empty, cut off or damaged.
        LimitError: over the limits.
        InputError: an array of another shape or dtype, or a type that is no audio.
    """
    limits = access.limits
    if isinstance(value, AudioLength):
        return AudioSource(n_samples=value.n_samples, _read=None)
    if not is_encoded(value):
        row = _as_row(value, integer_samples, rate_hz=rate_hz, limits=limits, label=label)
        return AudioSource(n_samples=len(row), _read=partial(_row_blocks, row, label=label))
    source = open_source(value, label=label, limits=limits, allow_network=access.allow_network)
    with _sound_file(source, limits=limits) as sound:
        n_frames = _count_frames(sound, source=source, limits=limits)
        n_samples = _resampled_length(n_frames, rate_hz=rate_hz, file_rate_hz=sound.file.samplerate)
    read = partial(_file_blocks, source, n_frames=n_frames, n_samples=n_samples, rate_hz=rate_hz, limits=limits)
    return AudioSource(n_samples=n_samples, _read=read)


@dataclass(frozen=True, kw_only=True)
class _OpenSound:
    """A file that libsndfile reads, and what to do meanwhile so that nothing is written to the terminal."""

    file: Any
    quiet: Callable[[], AbstractContextManager[None]]


@contextmanager
def _sound_file(source: Source, *, limits: Limits) -> Iterator[_OpenSound]:
    """Open with soundfile and check the header; what libsndfile raises becomes a MediaError."""
    soundfile = require("soundfile", extra="audio")
    with ExitStack() as stack:
        handle = stack.enter_context(source.open()) if source.path else _Memory(source.data or b"")
        quiet = ignore_decoder_notes if _begins_like_mp3(handle.read(3)) else nullcontext
        handle.seek(0)
        if source.path is not None and source.path.suffix.lower() == ".raw":
            raise MediaError(f"{source.name}: raw samples have no header to read; give them as an array, or as WAV")
        try:
            with quiet():
                open_file = _sequential(soundfile.SoundFile)
                file = stack.enter_context(open_file(handle if source.path is None else str(source.path)))
            _check_header(file, source=source, limits=limits)
            yield _OpenSound(file=file, quiet=quiet)
        except soundfile.LibsndfileError as error:
            raise MediaError(
                f"{source.name} is not audio that can be read ({error.error_string.rstrip('.')}); give WAV, FLAC, OGG, "
                "MP3 or AIFF, or convert it with ffmpeg"
            ) from None


@cache
def _sequential(sound_file: type) -> type:
    """A reader that does not seek: soundfile's does, after each block, and then an MP3's next block is another."""
    return type("SequentialSoundFile", (sound_file,), {"seekable": lambda _self: False})


class _Memory(io.BytesIO):
    """Bytes in which a seek to before the start fails as in a file: without moving, and without an exception.

    soundfile calls it from C on damaged files, where an exception would be printed to stderr.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _count_frames(sound: _OpenSound, *, source: Source, limits: Limits) -> int:
    """Samples of one channel: the header's word, but for MPEG audio without one, where libsndfile guesses."""
    n_frames: int = sound.file.frames
    if not sound.file.subtype.startswith(_MPEG) or _tells_length(source):
        return n_frames
    n_frames, n_at_once = 0, max(1, _BLOCK_SAMPLES // sound.file.channels)
    while n_read := len(_read(sound, n_at_once)):
        n_frames += n_read
        check_seconds(n_frames / sound.file.samplerate, name=source.name, limits=limits)
    return n_frames


def _tells_length(source: Source) -> bool:
    """Whether the first MPEG frame is a Xing, Info or VBRI header, which counts the others."""
    with source.open() as file:
        head = file.read(_ID3_BYTES)
        if head[:3] == b"ID3":
            n_bytes = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            file.seek(_ID3_BYTES + n_bytes)
            head = b""
        head += file.read(_MPEG_HEADER_BYTES)
    return any(tag in head for tag in (b"Xing", b"Info", b"VBRI"))


def _read(sound: _OpenSound, n_frames: int) -> NDArray[np.float32]:
    with sound.quiet():
        frames: NDArray[np.float32] = sound.file.read(n_frames, dtype="float32", always_2d=True)
    return frames


def _check_header(file: Any, *, source: Source, limits: Limits) -> None:
    for claimed, actual in _CORRECTED_SIZE.findall(file.extra_info):
        if int(actual) + _PADDING_BYTES < int(claimed) < _UNKNOWN_SIZE:
            raise MediaError(
                f"{source.name}: the header claims {claimed} bytes, the file holds {actual}; it is cut off; "
                "write it again, for instance with ffmpeg"
            )
    check_seconds(file.frames / file.samplerate, name=source.name, limits=limits)


def _file_blocks(
    source: Source, *, n_frames: int, n_samples: int, rate_hz: int, limits: Limits
) -> Iterator[NDArray[np.float32]]:
    """Blocks of a file, `n_samples` in all: resampling may give a sample less or more, which is filled up or cut."""
    n_left = n_samples
    with _sound_file(source, limits=limits) as sound:
        rate_of_file_hz: int = sound.file.samplerate
        # so many samples at most are read, of all channels together, or come out of resampling
        n_at_once = min(_BLOCK_SAMPLES // sound.file.channels, _BLOCK_SAMPLES * rate_of_file_hz // rate_hz)
        blocks = _mono_blocks(sound, n_frames=n_frames, n_at_once=max(1, n_at_once), name=source.name)
        if rate_of_file_hz != rate_hz:
            blocks = _resampled_blocks(blocks, rate_of_file_hz, rate_hz=rate_hz, name=source.name)
        for block in blocks:
            kept = block[:n_left]
            if not np.isfinite(kept).all():
                raise MediaError(f"{source.name} holds NaN or infinite samples; it is damaged; replace it")
            n_left -= len(kept)
            yield kept
    if n_left:
        yield np.zeros(n_left, np.float32)


def _mono_blocks(sound: _OpenSound, *, n_frames: int, n_at_once: int, name: str) -> Iterator[NDArray[np.float32]]:
    """Read in blocks, averaging as they come, so that channels and claimed lengths cost no memory."""
    n_read = 0
    while len(frames := _read(sound, n_at_once)):
        n_read += len(frames)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite samples are refused by `_file_blocks`
            yield average_channels(frames)
    if n_read != n_frames:
        raise MediaError(f"{name}: the header claims {n_frames} samples, {n_read} can be decoded; it is cut off")


def _resampled_blocks(
    blocks: Iterable[NDArray[np.float32]], rate_of_file_hz: int, *, rate_hz: int, name: str
) -> Iterator[NDArray[np.float32]]:
    """Resample as one waveform; what the filter holds back comes after the last block."""
    soxr = require("soxr", extra="audio")
    try:
        stream = soxr.ResampleStream(rate_of_file_hz, rate_hz, num_channels=1, dtype="float32", quality="soxr_hq")
    except (RuntimeError, ValueError) as error:
        raise MediaError(f"{name} of {rate_of_file_hz} Hz cannot be resampled to {rate_hz} Hz ({error})") from error
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def _resampled_length(n_samples: int, *, rate_hz: int, file_rate_hz: int) -> int:
    return n_samples if rate_hz == file_rate_hz else math.ceil(n_samples * rate_hz / file_rate_hz)


def _begins_like_mp3(head: bytes) -> bool:
    return head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def _as_row(
    value: Any, integer_samples: IntegerSamples, *, rate_hz: int, limits: Limits, label: str
) -> NDArray[np.floating[Any]]:
    """View an array, tensor or list as one row of floating-point samples."""
    if not isinstance(value, list | tuple) and not hasattr(value, "__array__"):
        raise InputError(
            f"{label} is {type(value).__name__}; give a path, bytes, a file object, a data: URI, base64 text or one "
            "row of samples"
        )
    try:
        row = np.asarray(value)
    except ValueError:
        raise InputError(f"{label} is a list of lists of unequal lengths; give one row of samples") from None
    if row.ndim != 1:
        raise InputError(
            f"{label} is an array of shape {row.shape}; it must be one row of mono samples at {rate_hz} Hz; average "
            "the channels, for instance with array.mean(axis=0)"
        )
    check_seconds(len(row) / rate_hz, name=label, limits=limits)
    if row.dtype.kind in "iu":
        return _from_integers(row, integer_samples, label=label)
    if row.dtype.kind != "f":
        raise InputError(f"{label} is an array of {row.dtype}; it must be floating point, -1 to 1; convert it")
    return row


def _from_integers(
    row: NDArray[np.integer[Any]], integer_samples: IntegerSamples, *, label: str
) -> NDArray[np.float32]:
    if integer_samples == "cast":
        return row.astype(np.float32)
    if integer_samples == "scale" and row.dtype.name in _SIGNED_BITS:
        return row.astype(np.float32) * np.float32(2.0 ** (1 - _SIGNED_BITS[row.dtype.name]))
    if integer_samples == "scale" and row.dtype == np.uint8:
        return (row.astype(np.float32) - np.float32(128)) * np.float32(2.0**-7)
    if integer_samples == "scale":
        raise InputError(f"{label} is an array of {row.dtype}, whose full scale is unknown; scale it to -1…1 yourself")
    raise InputError(
        f"{label} is an array of {row.dtype}; the reference would cast it unscaled, far too loud; divide it by its "
        "full scale (array / 32768 for int16), or pass integer_samples='scale', or 'cast' for the reference's values"
    )


def _row_blocks(row: NDArray[np.floating[Any]], *, label: str) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(row), _BLOCK_SAMPLES):
        with np.errstate(over="ignore"):
            samples = row[start : start + _BLOCK_SAMPLES].astype(np.float32, copy=False)
        if not (finite := np.isfinite(samples)).all():
            raise InputError(
                f"{label} holds NaN, infinite or too large values, first at sample {start + int(np.argmin(finite))}; "
                "replace them, for instance with numpy.nan_to_num"
            )
        yield samples
