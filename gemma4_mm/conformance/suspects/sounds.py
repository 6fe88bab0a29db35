"""Mistakes with sound: scale, rate, channels, and the number of frames."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.oracle import given
from gemma4_mm.conformance.suspects.scene import Scene, Theory
from gemma4_mm.core.audio.waveform import frame_waveform
from gemma4_mm.optional import require
from gemma4_mm.spec import SAMPLE_RATE_HZ, SAMPLES_PER_TOKEN

Samples = NDArray[np.float32]
_CAP: Final = 750  # 30 s in frames; HF's audio_seq_length, which it does not enforce
_FRAMES: Final = ("pcm", "frames", "frames_mask", "soft_tokens")


def _right(scene: Scene) -> Samples:
    """The samples that should be framed."""
    if "pcm" in scene.expected:
        pcm: Samples = scene.expected["pcm"]
        return pcm
    samples: Samples = scene.case.inputs["samples"]
    limit = scene.case.options.get("max_length")
    return samples if limit is None else samples[: limit * SAMPLES_PER_TOKEN]


def _as_int16(samples: Samples) -> Samples:
    words: Samples = np.rint(samples * np.float32(32_767)).clip(-32_768, 32_767).astype(np.float32)
    return words


def _of_file(make: Callable[[NDArray[np.float32]], Samples]) -> Callable[[Scene], Samples | None]:
    """What a file's samples `(n, channels)` become without resampling; None for cases of samples."""

    def compute(scene: Scene) -> Samples | None:
        if scene.case.options.get("given_as") != "file":
            return None
        soundfile = require("soundfile", extra="audio")
        with tempfile.TemporaryDirectory() as folder:
            path = given.audio_argument(scene.case.inputs, scene.case.options, Path(folder))
            samples = soundfile.read(path, dtype="float32", always_2d=True)[0]
        return np.ascontiguousarray(make(samples).astype(np.float32))

    return compute


def _centred(samples: Samples) -> Samples:
    centred: Samples = (samples - samples.mean()) / np.sqrt(samples.var() + np.float32(1e-7))
    return centred


def _peak(samples: Samples) -> Samples:
    scaled: Samples = samples / max(np.abs(samples).max(initial=0), np.float32(1e-9))
    return scaled


_WAVEFORMS: Final[Mapping[str, tuple[str, Callable[[Scene], Samples | None]]]] = {
    "int16-unscaled": ("16-bit samples that are not scaled to -1…1", lambda scene: _as_int16(_right(scene))),
    "times-32768": ("samples 32,768 times too loud", lambda scene: _right(scene) * np.float32(32_768)),
    "through-16-bits": (
        "samples rounded to 16 bits on the way",
        lambda scene: _as_int16(_right(scene)) / np.float32(32_768),
    ),
    "normalised": ("samples normalised to mean 0 and variance 1", lambda scene: _centred(_right(scene))),
    "peak-normalised": ("samples scaled to a peak of 1", lambda scene: _peak(_right(scene))),
    "not-resampled": ("a file's samples without resampling to 16 kHz", _of_file(lambda samples: samples.mean(axis=1))),
    "interleaved": ("the channels of a file read as one", _of_file(lambda samples: samples.reshape(-1))),
    "first-channel": ("the first channel only, not resampled", _of_file(lambda samples: samples[:, 0])),
    "capped": ("a cap of 30 s", lambda scene: _right(scene)[: _CAP * SAMPLES_PER_TOKEN]),
    "last-frame-dropped": ("the last, partial frame left out", lambda scene: _whole_frames(_right(scene))),
    "frame-added": ("one frame of padding too many", lambda scene: np.pad(_right(scene), (0, SAMPLES_PER_TOKEN))),
    "max-length-ignored": ("max_length ignored", lambda scene: scene.case.inputs["samples"]),
}


def _whole_frames(samples: Samples) -> Samples:
    return samples[: len(samples) // SAMPLES_PER_TOKEN * SAMPLES_PER_TOKEN]


def _waveform_theory(name: str, words: str, make: Callable[[Scene], Samples | None]) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:
        samples = make(scene)
        if samples is None or samples.ndim != 1:
            return None
        if stage == "pcm":
            return samples
        frames = frame_waveform(samples)
        if stage == "soft_tokens":
            return np.array([len(frames)], np.int32)
        return np.ones(len(frames), np.uint8) if stage == "frames_mask" else frames

    return Theory(name=name, words=words, kinds=("audio",), stages=_FRAMES, compute=compute)


def _milliseconds(scene: Scene, stage: str) -> NDArray[Any] | None:  # noqa: ARG001 (one stage only)
    whole_ms = len(_right(scene)) * 1000 // SAMPLE_RATE_HZ
    return np.array([-(-whole_ms // 40)], np.int32)


SOUND_THEORIES: Final = (
    *(_waveform_theory(name, *row) for name, row in _WAVEFORMS.items()),
    Theory(
        name="counted-in-milliseconds",
        words="tokens counted from whole milliseconds",
        kinds=("audio",),
        stages=("soft_tokens",),
        compute=_milliseconds,
    ),
)
