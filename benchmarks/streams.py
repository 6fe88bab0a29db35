"""Two hours of film and of sound, time and peak memory, equality first: `python -m benchmarks.streams`.

The film has 24 frames a second and a key frame every 250; 32 frames are sampled. Theirs is what a user of transformers
writes: `read_video_pyav` and the video processor, the soundfile loader and the feature extractor. Ours is a call, which
holds all tensors, and a stream, which does not. Each runs in a process of its own, and the same bytes come out of all.
Memory is the peak over what the process held when the work began: libraries, and our tokenizer.
"""

import argparse
import ctypes
import gc
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.optional import require

_FPS: Final = 24
_HEIGHT_PX, _WIDTH_PX = 180, 320
_RATE_HZ: Final = 44_100
_NUM_FRAMES: Final = 32


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line per medium, duration and side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, nargs="+", default=[2, 120], help="durations")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # what to run in this process, and on which file
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(_run(*options.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.minutes:
            for write, kind in ((_write_film, "film"), (_write_sound, "sound")):
                _compare(write(Path(folder), minutes=minutes), kind=kind, minutes=minutes)


def _compare(path: Path, *, kind: str, minutes: int) -> None:
    digests = set()
    for side in ("call", "stream", "theirs"):
        command = [sys.executable, "-m", "benchmarks.streams", "--one", f"{kind}_{side}", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 (our own command line)
        report = json.loads(done.stdout)
        digests.add(report["digest"])
        print(f"{kind:6}{minutes:5} min  {side:7}{report['seconds']:7.1f} s{report['peak_mb']:8.0f} MB", flush=True)
    if len(digests) != 1:
        raise SystemExit(f"{kind}: the tensors differ; run the tests")


def _run(how: str, path: str) -> dict[str, Any]:
    """Encode one file; the digest is of all values in their order, the time that of everything but imports."""
    prepare: dict[str, Callable[[str], Callable[[], Iterable[NDArray[Any]]]]] = {
        "film_call": _film_call,
        "film_stream": _film_stream,
        "film_theirs": _film_theirs,
        "sound_call": _sound_call,
        "sound_stream": _sound_stream,
        "sound_theirs": _sound_theirs,
    }
    encode = prepare[how](path)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # give back what loading a tokenizer has freed, so as not to use it again unseen
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before_mb = _status_mb("VmRSS")
    start = time.perf_counter()
    digest = hashlib.sha256()
    for values in encode():
        digest.update(np.ascontiguousarray(values).data.cast("B"))
    seconds = time.perf_counter() - start
    return {"digest": digest.hexdigest(), "seconds": seconds, "peak_mb": _status_mb("VmHWM") - before_mb}


def _film_call(path: str) -> Callable[[], Iterable[NDArray[Any]]]:
    processor = _processor()
    return lambda: [processor(text="<|video|>", videos=[path])["pixel_values_videos"]]


def _film_stream(path: str) -> Callable[[], Iterable[NDArray[Any]]]:
    processor = _processor()
    return lambda: (frame.pixel_values for frame in processor.stream_video(path))


def _film_theirs(path: str) -> Callable[[], Iterable[NDArray[Any]]]:
    from transformers.models.gemma4_unified import Gemma4UnifiedVideoProcessor
    from transformers.video_utils import default_sample_indices_fn, read_video_pyav

    processor = Gemma4UnifiedVideoProcessor()
    file: Any = path

    def encode() -> Iterable[NDArray[Any]]:
        frames, _metadata = read_video_pyav(
            file, lambda metadata, **_: default_sample_indices_fn(metadata, num_frames=_NUM_FRAMES)
        )
        inputs = processor(videos=[frames], do_sample_frames=False, return_metadata=True, return_tensors="pt")
        return [inputs["pixel_values_videos"].numpy()]

    return encode


def _sound_call(path: str) -> Callable[[], Iterable[NDArray[Any]]]:
    processor = _processor()
    return lambda: [processor(text="<|audio|>", audio=[path])["input_features"]]


def _sound_stream(path: str) -> Callable[[], Iterable[NDArray[Any]]]:
    processor = _processor()
    return lambda: processor.stream_audio(path)


def _sound_theirs(path: str) -> Callable[[], Iterable[NDArray[Any]]]:
    from transformers.audio_utils import load_audio
    from transformers.models.gemma4_unified import Gemma4UnifiedAudioFeatureExtractor

    extractor = Gemma4UnifiedAudioFeatureExtractor()

    def encode() -> Iterable[NDArray[Any]]:
        samples = load_audio(path, sampling_rate=16_000, backend="soundfile")
        return [extractor([samples], return_tensors="pt")["input_features"].numpy()]

    return encode


def _processor() -> Any:
    from gemma4_mm import Processor

    return Processor.from_pretrained()


def _status_mb(field: str) -> float:
    """Resident memory of this process: now (VmRSS), or at most since its peak was reset (VmHWM)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e6


def _write_film(folder: Path, *, minutes: int) -> Path:
    """Texture that moves, so that frames have something to predict from one another."""
    av = require("av", extra="video")
    path = folder / f"{minutes}.mp4"
    texture = np.random.default_rng(0).integers(0, 256, (2 * _HEIGHT_PX // 4, 2 * _WIDTH_PX // 4, 3), np.uint8)
    texture = texture.repeat(4, axis=0).repeat(4, axis=1)
    pictures = [
        av.VideoFrame.from_ndarray(
            np.ascontiguousarray(texture[step : step + _HEIGHT_PX, 2 * step : 2 * step + _WIDTH_PX]), format="rgb24"
        ).reformat(format="yuv420p")
        for step in range(100)
    ]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_FPS, options={"preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = _HEIGHT_PX, _WIDTH_PX, "yuv420p"
        stream.codec_context.gop_size = 250
        for index in range(minutes * 60 * _FPS):
            step = index % 198
            frame = pictures[min(step, 198 - step)]
            frame.pts, frame.time_base = index, Fraction(1, _FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _write_sound(folder: Path, *, minutes: int) -> Path:
    soundfile = require("soundfile", extra="audio")
    path = folder / f"{minutes}.flac"
    random = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", _RATE_HZ, 1, "PCM_16") as file:
        for _ in range(minutes):
            tone = np.sin(np.arange(60 * _RATE_HZ) * 0.05) * 8_000
            file.write((tone + random.normal(0, 200, len(tone))).astype(np.int16))
    return path


if __name__ == "__main__":
    main()
