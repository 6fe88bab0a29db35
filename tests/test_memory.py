"""Two hours cost no more memory than two minutes, and many large frames no more than few.

Each file is encoded in a process of its own, and what the call gives back is taken off its peak. `Limits` are the
defaults.
"""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from tests.media.files import scene, sound
from tests.memory_probe import STATUS

MINUTES_S = 60
SHORT_S, LONG_S = 2 * MINUTES_S, 120 * MINUTES_S
MOST_GROWTH_BYTES = 32 << 20  # from run to run it moves by 3 MB; 360 encoded frames are 697 MB, the samples 230 MB
LARGE_HEIGHT_PX, LARGE_WIDTH_PX = 2160, 3840
# Three frames: what decoder threads hold at once moves by one or two. Sixteen frames more would be 398 MB.
MOST_GROWTH_OF_LARGE_BYTES = 3 * LARGE_HEIGHT_PX * LARGE_WIDTH_PX * 3
ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="peak memory of a process is read from Linux's /proc")


def encode(how, path, *arguments):
    """What `tests.memory_probe` reports, with the peak over what is held at the end."""
    command = [sys.executable, "-m", "tests.memory_probe", how, str(path), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    return report["n"], report["peak_bytes"] - report["held_bytes"]


def write_long_sound(path, *, rate_hz, duration_s):
    minute = (sound(n_samples=rate_hz * MINUTES_S)[:, 0] * 32_767).astype(np.int16)
    with soundfile.SoundFile(path, "w", rate_hz, 1, "PCM_16") as file:
        for _ in range(duration_s // MINUTES_S):
            file.write(minute)
    return path


def write_long_film(path, *, fps, n_frames, height_px, width_px, codec):
    """Three pictures in turn."""
    pictures = [
        av.VideoFrame.from_ndarray(scene(height_px=height_px, width_px=width_px, shift=8 * index), format="rgb24")
        for index in range(3)
    ]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = height_px, width_px, "yuv420p"
        stream.codec_context.gop_size = 50
        if codec == "libx264":
            stream.options = {"preset": "ultrafast"}
        frames = [picture.reformat(format="yuv420p") for picture in pictures]
        for index in range(n_frames):
            frame = frames[index % 3]
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("how", "name", "rate_hz"), [("stream_sound", "a.flac", 44_100), ("encode_sound", "a.wav", 8_000)]
)
def test_two_hours_of_sound(tmp_path, how, name, rate_hz):
    peaks = []
    for duration_s in (SHORT_S, LONG_S):
        path = write_long_sound(tmp_path / name, rate_hz=rate_hz, duration_s=duration_s)
        n_tokens, peak_bytes = encode(how, path)
        assert n_tokens == duration_s * 25
        peaks.append(peak_bytes)
    assert peaks[1] - peaks[0] < MOST_GROWTH_BYTES


def test_two_hours_of_film(tmp_path):
    short, long = (
        write_long_film(
            tmp_path / f"{duration_s}.mp4", fps=5, n_frames=5 * duration_s, height_px=120, width_px=160, codec="libx264"
        )
        for duration_s in (SHORT_S, LONG_S)
    )
    for how, few, many in (("encode_film", 32, 32), ("stream_film", 12, 360)):
        peaks = []
        for path, num_frames in ((short, few), (long, many)):
            n_frames, peak_bytes = encode(how, path, num_frames)
            assert n_frames == num_frames
            peaks.append(peak_bytes)
        assert peaks[1] - peaks[0] < MOST_GROWTH_BYTES


def test_many_large_frames(tmp_path):
    path = write_long_film(
        tmp_path / "a.mp4", fps=24, n_frames=24, height_px=LARGE_HEIGHT_PX, width_px=LARGE_WIDTH_PX, codec="mpeg4"
    )
    for how in ("encode_film", "stream_film"):
        peaks = []
        for num_frames in (8, 24):
            n_frames, peak_bytes = encode(how, path, num_frames)
            assert n_frames == num_frames
            peaks.append(peak_bytes)
        assert peaks[1] - peaks[0] < MOST_GROWTH_OF_LARGE_BYTES
