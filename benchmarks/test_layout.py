"""Hot functions of audio and of token rows under pytest-benchmark: `pytest benchmarks/test_layout.py`."""

from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import QUESTION
from benchmarks.reference import assets
from benchmarks.vision import sound
from gemma4_mm import AudioLength, ImageSize, Processor, VideoSize
from gemma4_mm.core.audio.waveform import batch_frames, frame_waveform
from gemma4_mm.core.tokens.placeholders import SoftRun, expand_placeholders
from gemma4_mm.spec import SAMPLES_PER_TOKEN, TokenIds


@pytest.fixture(scope="module")
def processor() -> Processor:
    """Over the published files."""
    return Processor.from_pretrained(assets().tokenizer.parent)


@pytest.mark.parametrize("duration_s", [10, 600])
def test_frame_waveform(benchmark: BenchmarkFixture, duration_s: int) -> None:
    """One waveform to frames of 640 samples."""
    samples = sound(duration_s=duration_s)
    frames = benchmark(frame_waveform, samples)
    assert np.array_equal(frames.reshape(-1)[: len(samples)], samples)


def test_batch_of_waveforms(benchmark: BenchmarkFixture) -> None:
    """Sixteen waveforms of 1 to 16 s to one padded batch."""
    waveforms = [sound(duration_s=duration_s) for duration_s in range(1, 17)]
    batch = benchmark(batch_frames, waveforms)
    assert batch.mask.sum() == sum(-(-len(samples) // SAMPLES_PER_TOKEN) for samples in waveforms)


@pytest.mark.parametrize("n_images", [1, 100])
def test_expansion(benchmark: BenchmarkFixture, n_images: int) -> None:
    """A prompt with images of 266 soft tokens each."""
    tokens = TokenIds()
    ids = np.tile(np.array([5, 6, tokens.image, 7], np.int64), n_images)
    runs = [SoftRun(kind="image", n_tokens=266, item=item) for item in range(n_images)]
    expansion = benchmark(expand_placeholders, ids, runs)
    assert (expansion.ids == tokens.image).sum() == 266 * n_images


@pytest.mark.parametrize(
    "media",
    [
        [{"type": "image", "image": ImageSize(height_px=3000, width_px=4000)}],
        [
            {"type": "video", "video": VideoSize(total_frames=3000, fps=25.0, height_px=720, width_px=1280)},
            {"type": "audio", "audio": AudioLength.from_seconds(120)},
        ],
    ],
    ids=["image", "video-and-audio"],
)
def test_plan(benchmark: BenchmarkFixture, processor: Processor, media: list[dict[str, Any]]) -> None:
    """The token layout of a conversation from sizes alone."""
    messages = [{"role": "user", "content": [*media, {"type": "text", "text": QUESTION}]}]
    layout = benchmark(processor.plan, messages)
    assert layout.n_tokens[0] > 200
