"""Waveforms to audio frames: all into one array, or as a stream."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.audio.waveform import count_frames, frame_blocks, plan_frames, write_frames
from gemma4_mm.core.outputs import DEFAULT_OUTPUTS, Outputs
from gemma4_mm.encode.access import Access, Encoded
from gemma4_mm.encode.items import EncodedAudio
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import AudioLength
from gemma4_mm.media.audio import AudioSource, audio_samples, open_audio
from gemma4_mm.options import LengthOptions
from gemma4_mm.spec import SAMPLES_PER_TOKEN


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
    """Open one audio; errors are those of `encode_audio`."""
    if isinstance(frames_per_block, bool) or not isinstance(frames_per_block, int) or frames_per_block < 1:
        raise InputError(f"frames_per_block is {frames_per_block!r}; it must be a whole number of at least 1")
    source = open_audio(value, **access.arguments(label))
    return AudioStream(
        n_tokens=count_frames(source.n_samples),
        frames_per_block=frames_per_block,
        _source=source,
        _dtype=outputs.dtype,
    )


def encode_audio(
    values: Sequence[Any], *, length: LengthOptions, access: Access, outputs: Outputs = DEFAULT_OUTPUTS
) -> Encoded[int]:
    """Decode audios in blocks, resampled to 16 kHz mono, and write each block into its place in one array.

    Returns:
        `input_features` `(audios, frames, 640)` of `outputs.dtype`, padded at the end with 0.0, and
        `input_features_mask` bool `(audios, frames)`.
    """
    if not values:
        return Encoded()
    sources = [
        value if isinstance(value, EncodedAudio) else open_audio(value, **access.arguments(f"audio {item}"))
        for item, value in enumerate(values)
    ]
    plan = plan_frames(
        [source.n_samples for source in sources],
        padding=length.padding,
        max_length=length.max_length,
        truncation=length.truncation,
    )
    features = outputs.allocate("input_features", (len(sources), plan.width, SAMPLES_PER_TOKEN))
    for source, row, count in zip(sources, features, plan.counts, strict=True):
        write_frames(source.blocks(), row, count=count)
    mask = plan.mask
    return Encoded(
        tensors={"input_features": features, "input_features_mask": mask},
        plans=plan.counts,
        valid_rows=mask.sum(axis=1).tolist(),
    )


def measure_audio(values: Sequence[Any], *, length: LengthOptions, access: Access) -> tuple[int, ...]:
    """Count the frames of audios from their headers or `AudioLength` alone."""
    counts = []
    for item, value in enumerate(values):
        n_samples = (
            value.n_samples
            if isinstance(value, AudioLength)
            else audio_samples(value, **access.arguments(f"audio {item}"))
        )
        count = count_frames(n_samples)
        counts.append(min(count, length.max_length) if length.truncation and length.max_length else count)
    return tuple(counts)
