"""Audio: contents, every interesting length modulo 640, files of other rates, and long ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance import patterns
from gemma4_mm.conformance.records import Case
from gemma4_mm.spec import SAMPLES_PER_TOKEN

_REMAINDERS = (0, 1, 2, 15, 16, 17, 159, 160, 319, 320, 321, 479, 480, 624, 625, 638, 639)


def audio_cases() -> Iterator[Case]:
    """All audio cases."""
    yield from _contents()
    yield from _lengths()
    yield from _files()
    yield from _pitfalls()


def audio_case(
    name: str, samples: NDArray[np.float32], summary: str, *, pitfall: str | None = None, **options: Any
) -> Case:
    """One audio case; `options` are those of `cases`."""
    return Case(name=name, kind="audio", inputs={"samples": samples}, options=options, pitfall=pitfall, summary=summary)


def _contents() -> Iterator[Case]:
    tiny = patterns.hiss(1500, seed=2) * np.float32(2.0**-140)  # subnormal numbers
    made = {
        "silence": np.zeros(3000, np.float32),
        "negative-silence": np.full(1000, -0.0, np.float32),
        "tone": patterns.tone(16_000),
        "chirp": patterns.chirp(9_999),
        "noise": patterns.hiss(5_000),
        "loud": patterns.hiss(2_000, seed=1) * np.float32(7),
        "subnormal": tiny,
    }
    for name, samples in made.items():
        yield audio_case(
            f"audio-{name}", samples, f"{len(samples)} samples: {name.replace('-', ' ')}; no normalisation."
        )


def _lengths() -> Iterator[Case]:
    for remainder in _REMAINDERS:
        n_samples = 2 * SAMPLES_PER_TOKEN + remainder
        summary = f"{n_samples} samples, {remainder} more than a multiple of 640."
        yield audio_case(f"audio-remainder-{remainder}", patterns.hiss(n_samples, seed=remainder), summary)
    for n_samples in (1, 639, 640, 641):
        yield audio_case(f"audio-length-{n_samples}", patterns.hiss(n_samples, seed=3), f"{n_samples} samples in all.")
    yield audio_case("audio-truncated", patterns.tone(6 * 640 + 5), "Seven frames cut to four.", max_length=4)
    yield audio_case("audio-not-truncated", patterns.tone(3 * 640), "Three frames stay under four.", max_length=4)


def _files() -> Iterator[Case]:
    files = {  # rate, channels, sample format
        "mono-16k": (16_000, 1, "FLOAT"),
        "stereo-16k": (16_000, 2, "FLOAT"),
        "stereo-44k": (44_100, 2, "FLOAT"),
        "six-channels-48k": (48_000, 6, "FLOAT"),
        "mono-8k": (8_000, 1, "FLOAT"),
        "mono-22k": (22_050, 1, "FLOAT"),
        "integers-16k": (16_000, 1, "PCM_16"),
    }
    for seed, (name, (rate_hz, channels, subtype)) in enumerate(files.items()):
        samples = patterns.hiss(rate_hz // 10 * channels + channels, seed=seed).reshape(-1, channels)
        yield audio_case(
            f"audio-file-{name}",
            samples / np.float32(2),
            f"A WAV of {channels} channel(s) at {rate_hz} Hz, averaged and resampled to 16 kHz.",
            given_as="file",
            rate_hz=rate_hz,
            subtype=subtype,
        )


def _pitfalls() -> Iterator[Case]:
    yield audio_case(
        "pitfall-audio-off-by-one",
        patterns.tone(25 * 640 + 9),
        "One more token for nine samples over 25 frames, which is less than a millisecond.",
        pitfall="placeholders are counted from whole milliseconds and come out one too few or too many (vllm#47652)",
    )
    yield audio_case(
        "pitfall-audio-cap",
        patterns.chirp(31 * 16_000),
        "31 s: 775 tokens; the cap of 750 is documented, and not enforced.",
        pitfall="a cap of 30 s is applied to placeholders but not to features (mlx-swift-lm#400)",
    )
    yield audio_case(
        "pitfall-audio-not-resampled",
        np.stack(
            [patterns.tone(4_410, rate_hz=44_100), patterns.tone(4_410, frequency_hz=1000, rate_hz=44_100)], axis=1
        ),
        "A stereo file at 44.1 kHz.",
        pitfall="a file of another rate is framed without resampling (mlxcel#436)",
        given_as="file",
        rate_hz=44_100,
        subtype="PCM_16",
    )
