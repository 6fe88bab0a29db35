"""Audio: opened, then written block by block, all into one array or as a stream."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.audio.waveform import count_frames, frame_blocks, write_frames
from gemma4_mm.core.outputs import DEFAULT_OUTPUTS, Outputs
from gemma4_mm.encode.access import Access
from gemma4_mm.encode.cached import CachedAudio, KeptAudio
from gemma4_mm.encode.keys import find_file
from gemma4_mm.errors import InputError
from gemma4_mm.media.audio import AudioSource, open_audio
from gemma4_mm.media.source import is_encoded


@dataclass(frozen=True, kw_only=True)
class AudioStream:
    """One audio, decoded and framed as it is asked for; can be iterated any number of times.

    Joined, the blocks are the audio's `input_features` of a processor call without padding rows, in every bit.

    Attributes:
        n_tokens: frames of the whole audio, one soft token each; known before anything is decoded.
        frames_per_block: frames of each block but for the last, 40 ms each.
    """

    n_tokens: int
    frames_per_block: int
    _source: AudioSource
    _dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))

    def __len__(self) -> int:
        """Blocks."""
        return -(-self.n_tokens // self.frames_per_block)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Give the blocks in order, float32 `(frames, 640)` or of the dtype asked for, each in memory of its own.

        Raises:
            MediaError: the file is cut off or damaged, or holds NaN or infinite samples.
            InputError: an array that holds them.
        """
        for block in frame_blocks(self._source.blocks(), frames_per_block=self.frames_per_block):
            yield block.astype(self._dtype, copy=False)


def stream_audio(
    value: Any, *, frames_per_block: int, access: Access, outputs: Outputs = DEFAULT_OUTPUTS, label: str = "audio"
) -> AudioStream:
    """Open one audio; errors are those of `open_audios`."""
    if isinstance(frames_per_block, bool) or not isinstance(frames_per_block, int) or frames_per_block < 1:
        raise InputError(f"frames_per_block is {frames_per_block!r}; it must be a whole number of at least 1")
    source = open_audio(value, label=label, access=access)
    return AudioStream(
        n_tokens=count_frames(source.n_samples),
        frames_per_block=frames_per_block,
        _source=source,
        _dtype=outputs.dtype,
    )


class OpenedAudio(Protocol):
    """An audio of which the length is known: a file, samples, a length without samples, or a cache's entry."""

    @property
    def n_samples(self) -> int:
        """At 16 kHz."""
        ...

    @property
    def is_size_only(self) -> bool:
        """Whether it can be laid out and not written."""
        ...

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Decode block by block, `n_samples` in all."""
        ...


def open_audios(values: Sequence[Any], *, access: Access) -> tuple[OpenedAudio, ...]:
    """Open audios, in order; errors name the item.

    Raises:
        InputError: what is no audio.
        MediaError: a file without a readable header.
        LimitError: over the limits.
    """

    def open_one(value: Any, label: str) -> OpenedAudio:
        if access.cache is None or not is_encoded(value):
            return open_audio(value, label=label, access=access)
        found = find_file(value, kind="audio", options={}, label=label, access=access)
        if found.entry is not None:
            return CachedAudio(entry=found.entry)
        audio = open_audio(found.source, label=label, access=access)
        return KeptAudio(audio=audio, key=found.key, still=found.still_holds, cache=access.cache)

    return tuple(open_one(value, f"audio {item}") for item, value in enumerate(values))


def write_audio(audios: Sequence[OpenedAudio], features: NDArray[Any], *, counts: Sequence[int]) -> None:
    """Decode audios in blocks and write each block into its place.

    Args:
        audios: opened.
        features: `(audios, frames, 640)`; 0.0 follows an audio's own frames.
        counts: frames of each audio.
    """
    for audio, row, count in zip(audios, features, counts, strict=True):
        write_frames(audio.blocks(), row, count=count)
