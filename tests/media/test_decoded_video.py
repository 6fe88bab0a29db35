"""Frames that are decoded already: arrays, lists and single pictures against the reference's video processor."""

import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from gemma4_mm.errors import InputError, LimitError, MediaError
from gemma4_mm.limits import Limits
from gemma4_mm.releases import Profile
from gemma4_mm.testing.strategies import decoded_videos
from tests.media.files import (
    scene,
)
from tests.media.loading import load_video, probe_video


def clip(n_frames, *shape):
    return np.random.default_rng(0).integers(0, 256, (n_frames, *shape), np.uint8)


@pytest.fixture(scope="module")
def reference():
    """Frames `(frames, height, width, 3)` and metadata that the reference's video processor works with."""
    import torch
    from transformers.models.gemma4_unified.video_processing_gemma4_unified import Gemma4UnifiedVideoProcessor

    processor = Gemma4UnifiedVideoProcessor()

    def load(value, *, num_frames, do_sample_frames, video_metadata):
        videos, metadata = processor._decode_and_sample_videos(
            value,
            video_metadata=None if video_metadata is None else [video_metadata],
            do_sample_frames=do_sample_frames,
            sample_indices_fn=partial(processor.sample_frames, num_frames=num_frames) if do_sample_frames else None,
        )
        (video,) = processor._prepare_input_videos(videos=videos, do_convert_rgb=True)
        (metadata,) = metadata
        metadata.fps = 24 if metadata.fps is None else metadata.fps
        assert isinstance(metadata.timestamps, list)
        assert video.dtype == torch.uint8
        assert video.shape[1] == 3
        return video.permute(0, 2, 3, 1).numpy(), metadata

    return load


@pytest.mark.parity
@settings(max_examples=300)
@given(
    decoded_videos(),
    st.integers(1, 70),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 80)),
    st.sampled_from([None, 24, 29.97, 2.0]),
    st.booleans(),
)
@example(clip(40, 9, 3, 3), 32, True, None, None, False)
@example(clip(40, 3, 900, 3), 32, True, None, None, False)
def test_decoded_frames_equal_the_reference(reference, value, num_frames, sampled, total_frames, fps, with_indices):
    n_given = len(value) if isinstance(value, list) or getattr(value, "ndim", 0) == 4 else 1
    metadata = None
    if total_frames is not None:
        metadata = {"total_num_frames": total_frames, "fps": fps, "duration": 3.5}
        metadata["frames_indices"] = list(range(3, 3 + n_given)) if with_indices else None
    options = {"num_frames": num_frames, "do_sample_frames": sampled, "video_metadata": metadata}
    try:
        expected, known = reference(value, **options)
    except (ValueError, IndexError, ImportError, AttributeError, TypeError):
        with pytest.raises(InputError):
            load_video(value, **options)
        with pytest.raises(InputError):
            probe_video(value, **options)
        return
    video = load_video(value, **options)
    assert np.array_equal(np.stack(video.frames), expected)
    ours = video.metadata
    assert list(ours.frame_indices) == list(known.frames_indices)
    assert list(ours.timestamps_s) == list(known.timestamps)
    assert (ours.total_frames, ours.fps, ours.duration_s) == (known.total_num_frames, known.fps, known.duration)
    assert ours.fps_assumed == (metadata is None or fps is None)
    assert (ours.height_px, ours.width_px) == expected.shape[1:3]
    assert probe_video(value, **options) == ours


@pytest.mark.parity
def test_the_reference_cannot_infer_times_without_indices_and_neither_can_we(reference):
    options = {"num_frames": None, "do_sample_frames": False, "video_metadata": {"total_num_frames": 9, "fps": 2}}
    with pytest.raises(ValueError, match="Cannot infer"):
        reference(clip(4, 8, 8, 3), **options)
    with pytest.raises(InputError, match="4 frames, but its video_metadata holds no frames_indices"):
        load_video(clip(4, 8, 8, 3), **options)


@pytest.mark.parity
def test_the_reference_s_own_record_is_taken():
    from transformers.video_utils import VideoMetadata

    metadata = VideoMetadata(total_num_frames=12, fps=6.0)
    assert load_video(clip(12, 8, 8, 3), num_frames=4, video_metadata=metadata).metadata.timestamps_s == (
        0,
        0.5,
        1,
        1.5,
    )


@pytest.mark.parity
def test_a_tensor_is_an_array():
    import torch

    frames = clip(5, 3, 8, 9)
    video = load_video(torch.from_numpy(frames), num_frames=2)
    assert np.array_equal(np.stack(video.frames), frames[[0, 2]].transpose(0, 2, 3, 1))


def test_frames_of_arrays_are_views():
    frames = clip(6, 8, 8, 3)
    video = load_video(frames, num_frames=3)
    assert all(np.shares_memory(ours, frames) for ours in video.frames)


@pytest.mark.parity
def test_a_list_of_image_files_is_one_frame_each(reference, tmp_path):
    images = [Image.fromarray(scene(height_px=9, width_px=12, shift=index)) for index in range(3)]
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    texts = [str(path) for path in paths]
    options = {"num_frames": None, "do_sample_frames": False, "video_metadata": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchvision's image decoder, on which the reference falls
        expected, known = reference([[texts]], **options)
    for value in (paths, texts, [path.read_bytes() for path in paths]):
        video = load_video(value, **options)
        assert np.array_equal(np.stack(video.frames), expected)
        assert list(video.metadata.timestamps_s) == known.timestamps
    with pytest.raises(InputError, match="pass do_sample_frames=False"):
        load_video(paths, num_frames=2)
    with pytest.raises(MediaError, match=r"video 1, frame 1 \(bytes\) is not an image"):
        load_video([paths[0], b"text"], do_sample_frames=False, label="video 1")


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        (clip(4, 8, 8, 3).astype(np.float32), {}, "video 1 has frames of float32; they must be uint8"),
        (clip(4, 8, 8, 4), {}, r"frames of shape \(8, 8, 4\); .*1 or 3 channels; .*convert\('RGB'\)"),
        ([Image.new("L", (8, 8))], {}, r"frames of shape \(8, 8\)"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], {}, "several shapes"),
        (np.zeros((0, 8, 8, 3), np.uint8), {}, "video 1 has no frames; give at least one"),
        ([], {}, "video 1 has no frames"),
        (np.zeros((2, 0, 8, 3), np.uint8), {}, "frames of 8×0 px"),
        (np.zeros((8, 8), np.uint8), {}, r"array of shape \(8, 8\); one video is"),
        (np.zeros((2, 4, 8, 8, 3), np.uint8), {}, r"array of shape \(2, 4, 8, 8, 3\)"),
        ([clip(2, 8, 8, 3)], {}, "a list that holds a 4-D array"),
        ([["a.png"]], {}, "a list that holds a list"),
        (None, {}, "video 1 is NoneType; give a path"),
        (clip(4, 8, 8, 3), {"num_frames": 5}, "video 1: 5 frames were asked for, the video has 4"),
        (clip(4, 8, 8, 3), {"fps": 1.0}, "own frame rate is unknown; give it in video_metadata"),
        (clip(4, 8, 8, 3), {"video_metadata": 3}, "video_metadata is int; give a dict"),
        (clip(4, 8, 8, 3), {"video_metadata": {"fps": 2}}, "total_num_frames is None"),
        (clip(4, 8, 8, 3), {"video_metadata": {"total_num_frames": -1}}, "total_num_frames is -1"),
        (clip(4, 8, 8, 3), {"video_metadata": {"total_num_frames": 4, "fsp": 2}}, "has no key 'fsp'; known are total"),
        (
            clip(4, 8, 8, 3),
            {"video_metadata": {"total_num_frames": 4, "fps": 0}},
            "fps is 0; it must be a number above 0",
        ),
        (clip(4, 8, 8, 3), {"video_metadata": {"total_num_frames": 4, "fps": np.nan}}, "fps is nan"),
        (clip(4, 8, 8, 3), {"video_metadata": {"total_num_frames": 4, "fps": "24"}}, "fps is '24'"),
        (clip(4, 8, 8, 3), {"video_metadata": {"total_num_frames": 9}}, "has 4 frames, but its video_metadata says 9"),
        (clip(4, 8, 8, 3), {"video_metadata": {"total_num_frames": 4, "frames_indices": [-1]}}, "whole numbers from 0"),
        (
            clip(4, 8, 8, 3),
            {"video_metadata": {"total_num_frames": 9, "frames_indices": [0, 2]}, "do_sample_frames": False},
            "4 frames, but its video_metadata holds 2 frames_indices",
        ),
        (clip(17, 8, 8, 3), {"num_frames": 7, "profile": Profile.transformers("5.17")}, "asks for frame 17 of 17"),
    ],
)
def test_what_is_no_video_is_an_error(value, options, message):
    for call in (load_video, probe_video):
        with pytest.raises(InputError, match=message):
            call(value, label="video 1", **options)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_pixels=63), r"is 8×8 px .*Limits\.max_pixels"),
        (Limits(max_frames=3), "contributes 4 frames; the limit is 3"),
        (Limits(max_seconds=1.0), r"lasts 2\.0 s"),
    ],
)
def test_limits_hold_for_decoded_frames(limits, message):
    metadata = {"total_num_frames": 4, "fps": 2.0, "frames_indices": [0, 1, 2, 3]}
    for sampled in (True, False):
        with pytest.raises(LimitError, match=message):
            load_video(clip(4, 8, 8, 3), video_metadata=metadata, do_sample_frames=sampled, limits=limits)
