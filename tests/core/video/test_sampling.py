"""Frame indices and timestamps, against a loop and against both generations of the reference."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gemma4_mm.core.video.sampling import format_timestamp, frame_timestamps, sample_frame_indices
from gemma4_mm.errors import InputError
from gemma4_mm.releases import DEFAULT_PROFILE, Profile
from gemma4_mm.testing.strategies import frame_counts

FLOAT_RULE = Profile.transformers("5.17")


def slow_indices(total_frames, num_frames):
    """Frame i of n is the one at the fraction i/n of the video."""
    return [int(Fraction(i * total_frames, num_frames)) for i in range(num_frames)]


@given(frame_counts())
def test_indices_equal_the_slow_twin(count):
    total, wanted = count
    indices = sample_frame_indices(total, num_frames=wanted)
    assert indices.dtype == np.int64
    assert indices.tolist() == slow_indices(total, wanted)


def test_the_docstring_example():
    assert sample_frame_indices(10, num_frames=4).tolist() == [0, 2, 5, 7]


def test_without_a_count_every_frame_is_taken():
    assert sample_frame_indices(5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 11}, "11 frames were asked for, the video has 10"),
        ({"num_frames": 0}, "ask for 1 to 10"),
        ({"num_frames": 4, "fps": 1.0}, "pass one of them"),
        ({"fps": 1.0}, "own frame rate is unknown; give it in video_metadata"),
        ({"fps": 50.0, "video_fps": 24.0}, "20 frames were asked for"),
        ({"fps": 0.1, "video_fps": 24.0, "profile": FLOAT_RULE}, "0 frames were asked for"),
    ],
)
def test_a_count_that_cannot_be_met_is_an_error(arguments, message):
    with pytest.raises(InputError, match=message):
        sample_frame_indices(10, **arguments)


def test_timestamps_are_index_over_rate():
    assert frame_timestamps([0, 24, 36], video_fps=24.0) == (0.0, 1.0, 1.5)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "00:00"), (59.999, "00:59"), (60, "01:00"), (3599.5, "59:59"), (5999, "99:59"), (6000, "100:00")],
)
def test_minutes_go_on_beyond_99(seconds, written):
    assert format_timestamp(seconds) == written


@pytest.mark.parity
@settings(max_examples=300)
@given(frame_counts(), st.sampled_from([None, 0.5, 1, 2, 23.976, 24.0, 30, 59.94]))
@example((1, 1), 1)
@example((3, 1), 0.5)
def test_indices_equal_the_reference(count, fps):
    from transformers.video_utils import VideoMetadata, default_sample_indices_fn

    total, wanted = count
    metadata = VideoMetadata(total_num_frames=total, fps=24.0)
    asked = {"num_frames": wanted} if fps is None else {"fps": fps}
    try:
        expected = default_sample_indices_fn(metadata, **asked)
    except ValueError:
        with pytest.raises(InputError):
            sample_frame_indices(total, video_fps=24.0, **asked)
    else:
        assert np.array_equal(sample_frame_indices(total, video_fps=24.0, **asked), expected)


@pytest.mark.parity
def test_the_float_rule_equals_the_torch_arange_of_its_time():
    import torch

    for wanted in range(1, 97):
        for total in range(wanted, 1200, 7):
            expected = torch.arange(0, total, total / wanted).int().numpy()  # as in transformers 5.17
            assert np.array_equal(sample_frame_indices(total, num_frames=wanted, profile=FLOAT_RULE), expected)


def test_the_float_rule_can_ask_for_one_frame_beyond_the_end():
    assert sample_frame_indices(17, num_frames=7, profile=FLOAT_RULE).tolist() == [0, 2, 4, 7, 9, 12, 14, 17]
    assert len(sample_frame_indices(17, num_frames=7)) == 7


@pytest.mark.parity
@given(st.integers(0, 500_000), st.sampled_from([1, 23.976, 24, 24.0, 25.0, 29.97, 30, 60.0]))
def test_timestamps_equal_the_reference(index, fps):
    from transformers.video_utils import VideoMetadata

    (expected,) = VideoMetadata(total_num_frames=1, fps=fps, frames_indices=[index]).timestamps
    (seconds,) = frame_timestamps(np.array([index]), video_fps=fps)
    assert seconds == expected
    assert format_timestamp(seconds) == f"{int(expected // 60):02d}:{int(expected % 60):02d}"


def test_the_default_profile_has_the_integer_rule():
    assert DEFAULT_PROFILE.frame_sampling == "integer"
