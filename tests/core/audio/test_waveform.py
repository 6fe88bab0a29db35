"""Framing and padding of waveforms, against a loop and against the reference's feature extractor."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gemma4_mm.core.audio.waveform import average_channels, batch_frames, count_frames, frame_waveform
from gemma4_mm.errors import InputError
from gemma4_mm.testing.strategies import sample_counts

MAX_SAMPLES = 40 * 16_000
HF_PADDING = {"longest": "longest", "max_length": "max_length", "none": False}


def noise(n_samples, dtype=np.float32):
    """Samples that differ everywhere, -0.0 and subnormals among them."""
    samples = np.sin(np.arange(n_samples, dtype=np.float64) * 1.618) * 2.0
    samples[::97] = -0.0
    samples[1::101] = 1e-40
    return samples.astype(dtype)


def frame_slowly(samples):
    frames = []
    for start in range(0, len(samples), 640):
        frame = [np.float32(0.0)] * 640
        for index, value in enumerate(samples[start : start + 640]):
            frame[index] = np.float32(value)
        frames.append(frame)
    return np.array(frames, np.float32).reshape(-1, 640)


def same_bits(ours, theirs):
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()


@settings(max_examples=40)
@given(st.integers(0, 4000), st.sampled_from([np.float32, np.float64, np.float16, np.int16]))
def test_frames_equal_the_slow_twin(n_samples, dtype):
    samples = (noise(n_samples) * 1000).astype(dtype)
    frames = frame_waveform(samples)
    assert same_bits(frames, frame_slowly(samples))
    assert len(frames) == count_frames(n_samples)


def test_every_remainder_fills_the_last_frame_with_zeros():
    for remainder in range(640):
        frames = frame_waveform(np.ones(640 + remainder, np.float32))
        assert len(frames) == (1 if remainder == 0 else 2)
        assert frames.sum() == 640 + remainder


def test_a_batch_is_padded_at_its_end():
    batch = batch_frames([np.ones(1281, np.float32), np.ones(640, np.float32), np.empty(0, np.float32)])
    assert batch.features.shape == (3, 3, 640)
    assert batch.mask.tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    assert not batch.features[~batch.mask].any()


@pytest.mark.parametrize(
    ("waveforms", "options", "message"),
    [
        ([], {}, "no audio to frame"),
        ([np.zeros((2, 640))], {}, r"audio 0 is a float64 array of shape \(2, 640\).*average the channels"),
        ([np.zeros(4), np.zeros(4, complex)], {}, "audio 1 is a complex128 array"),
        ([np.zeros(4, bool)], {}, "audio 0 is a bool array"),
        ([np.zeros(4)], {"padding": "max_length"}, "needs max_length"),
        ([np.zeros(4)], {"padding": "shortest"}, "must be 'longest'"),
        ([np.zeros(4)], {"max_length": -1}, "max_length is -1 frames"),
        ([np.zeros(4)], {"pad_to_multiple_of": 0}, "at least 1"),
        ([np.zeros(640), np.zeros(1280)], {"padding": "none"}, r"\[1, 2\] frames.*use padding='longest'"),
    ],
)
def test_what_makes_no_batch_is_an_error(waveforms, options, message):
    with pytest.raises(InputError, match=message):
        batch_frames(waveforms, **options)


@pytest.fixture(scope="module")
def extractor():
    from transformers.models.gemma4_unified.feature_extraction_gemma4_unified import Gemma4UnifiedAudioFeatureExtractor

    return Gemma4UnifiedAudioFeatureExtractor()


@pytest.mark.parity
def test_every_remainder_equals_the_reference(extractor):
    source = noise(1280)
    for remainder in range(640):
        expected = extractor([source[: 640 + remainder], source[:remainder]], return_tensors="np")
        batch = batch_frames([source[: 640 + remainder], source[:remainder]])
        assert same_bits(batch.features, expected["input_features"])
        assert same_bits(batch.mask, expected["input_features_mask"])


@pytest.mark.parity
@settings(max_examples=250)
@given(
    sizes=st.lists(sample_counts(max_samples=MAX_SAMPLES), min_size=1, max_size=4),
    dtype=st.sampled_from([np.float32, np.float64, np.int16]),
    padding=st.sampled_from(["longest", "max_length", "none"]),
    max_length=st.one_of(st.none(), st.integers(0, 1000)),
    truncation=st.booleans(),
)
@example(sizes=[0], dtype=np.float64, padding="longest", max_length=None, truncation=True)
@example(sizes=[0, 0], dtype=np.float32, padding="none", max_length=None, truncation=True)
@example(sizes=[6400, 6400], dtype=np.float32, padding="max_length", max_length=5, truncation=False)
@example(sizes=[MAX_SAMPLES, 1], dtype=np.float32, padding="longest", max_length=750, truncation=True)
def test_batches_equal_the_reference(extractor, sizes, dtype, padding, max_length, truncation):
    waveforms = [(noise(size) * 1000).astype(dtype) for size in sizes]
    options = {"max_length": max_length, "truncation": truncation}
    try:
        expected = extractor(waveforms, padding=HF_PADDING[padding], return_tensors="pt", **options)
    except ValueError:
        with pytest.raises(InputError):
            batch_frames(waveforms, padding=padding, **options)
        return
    batch = batch_frames(waveforms, padding=padding, **options)
    assert same_bits(batch.features, expected["input_features"].numpy())
    assert same_bits(batch.mask, expected["input_features_mask"].numpy())


@pytest.mark.parity
@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=3),
    padding=st.sampled_from(["longest", "max_length", "none"]),
    max_length=st.integers(0, 12),
    truncation=st.booleans(),
    multiple=st.integers(1, 9),
)
@example(counts=[8, 3], padding="max_length", max_length=5, truncation=False, multiple=8)
def test_pad_to_multiple_of_equals_the_pad_of_the_reference(
    extractor, counts, padding, max_length, truncation, multiple
):
    options = {"max_length": max_length, "truncation": truncation, "pad_to_multiple_of": multiple}
    waveforms = [noise(count * 640) for count in counts]
    rows = [{"input_features": samples.reshape(-1, 640)} for samples in waveforms]
    try:
        expected = extractor.pad(
            rows, padding=HF_PADDING[padding], return_attention_mask=True, return_tensors="pt", **options
        )
    except ValueError:
        with pytest.raises(InputError):
            batch_frames(waveforms, padding=padding, **options)
        return
    batch = batch_frames(waveforms, padding=padding, **options)
    assert same_bits(batch.features, expected["input_features"].numpy())
    assert np.array_equal(batch.mask, expected["attention_mask"].numpy().astype(bool))


@pytest.mark.parity
def test_the_extractor_of_the_reference_drops_pad_to_multiple_of(extractor):
    expected = extractor([noise(640)], pad_to_multiple_of=128, return_tensors="np")
    assert expected["input_features"].shape == (1, 1, 640)


@pytest.mark.parametrize("n_channels", range(2, 20))
def test_channels_are_averaged_as_numpy_does_in_every_bit(n_channels):
    generator = np.random.default_rng(n_channels)
    frames = generator.standard_normal((5003, n_channels)) * 10.0 ** generator.integers(-44, 37, (5003, n_channels))
    frames[generator.random(frames.shape) < 0.2] = -0.0
    frames[generator.random(frames.shape) < 0.2] = 0.0
    frames[:7] = -0.0
    frames = frames.astype(np.float32)
    for part in (frames, frames[:1], frames[::3]):
        assert average_channels(part).tobytes() == part.T.mean(axis=0).tobytes()
