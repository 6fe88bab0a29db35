"""Waveforms to audio frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gemma4_mm.core.waveform import count_frames, plan_frames, write_frames
from gemma4_mm.encode.access import Access, Encoded
from gemma4_mm.inputs import AudioLength
from gemma4_mm.media.audio import audio_samples, open_audio
from gemma4_mm.options import LengthOptions
from gemma4_mm.spec import SAMPLES_PER_TOKEN


def encode_audio(values: Sequence[Any], *, length: LengthOptions, access: Access) -> Encoded[int]:
    """Decode audios, resampled to 16 kHz mono, and frame them into one array.

    Returns:
        `input_features` float32 `(audios, frames, 640)`, padded at the end with 0.0, and `input_features_mask` bool
        `(audios, frames)`.
    """
    if not values:
        return Encoded()
    sources = [open_audio(value, **access.arguments(f"audio {item}")) for item, value in enumerate(values)]
    plan = plan_frames(
        [source.n_samples for source in sources],
        padding=length.padding,
        max_length=length.max_length,
        truncation=length.truncation,
    )
    features = np.empty((len(sources), plan.width, SAMPLES_PER_TOKEN), np.float32)
    for source, row, count in zip(sources, features, plan.counts, strict=True):
        write_frames(source.blocks(), row, count=count)
    return Encoded(
        tensors={"input_features": features, "input_features_mask": plan.mask},
        plans=plan.counts,
        valid_rows=list(plan.counts),
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
