"""Waveforms to audio frames."""

from collections.abc import Sequence
from typing import Any

from gemma4_mm.core.waveform import batch_frames, count_frames
from gemma4_mm.encode.access import Access, Encoded
from gemma4_mm.encode.items import EncodedAudio
from gemma4_mm.inputs import AudioLength
from gemma4_mm.media.audio import audio_samples, load_audio
from gemma4_mm.options import LengthOptions


def encode_audio(values: Sequence[Any], *, length: LengthOptions, access: Access) -> Encoded[int]:
    """Decode audios, resampled to 16 kHz mono, and frame them into one array.

    Returns:
        `input_features` float32 `(audios, frames, 640)`, padded at the end with 0.0, and `input_features_mask` bool
        `(audios, frames)`.
    """
    if not values:
        return Encoded()
    waveforms = [
        value.samples if isinstance(value, EncodedAudio) else load_audio(value, **access.arguments(f"audio {item}"))
        for item, value in enumerate(values)
    ]
    batch = batch_frames(waveforms, padding=length.padding, max_length=length.max_length, truncation=length.truncation)
    counts: list[int] = batch.mask.sum(axis=1).tolist()
    return Encoded(
        tensors={"input_features": batch.features, "input_features_mask": batch.mask},
        plans=tuple(counts),
        valid_rows=counts,
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
