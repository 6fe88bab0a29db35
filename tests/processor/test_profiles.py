"""Earlier releases by name; what each gave was seen by running transformers 5.12.0, 5.20.0 and 5.24.0."""

import numpy as np
import pytest
from PIL import Image

from gemma4_mm import InputError, Processor, Profile


@pytest.fixture
def of_release(assets):
    return lambda version: Processor.from_pretrained(assets.tokenizer.parent, profile=Profile.transformers(version))


@pytest.mark.parametrize(("version", "grid"), [("5.12", (5, 52)), ("5.20", (5, 52)), ("5.24", (52, 5))])
def test_exif_of_files_turns_images_since_5_21(of_release, tmp_path, version, grid):
    """A file of 400×40 px that EXIF turns on its side; the oracle's grids are (rows, columns)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 40)).save(tmp_path / "turned.jpg", exif=exif)
    inputs = of_release(version)(images=str(tmp_path / "turned.jpg"))
    columns, rows = inputs["image_position_ids"][0].max(axis=0) + 1
    assert (rows, columns) == grid


@pytest.mark.parametrize(("version", "shape"), [("5.12", (1, 2, 70, 6912)), ("5.20", (2, 70, 6912))])
def test_videos_are_stacked_and_uncounted_before_5_19(of_release, version, shape):
    clip = np.zeros((4, 30, 40, 3), np.uint8)
    inputs = of_release(version)(text="<|video|>", videos=clip, num_frames=2)
    assert inputs["pixel_values_videos"].shape == shape
    assert inputs["video_position_ids"].shape == (*shape[:-1], 2)
    assert ("num_frames_per_video" in inputs) == (version == "5.20")
    assert inputs.video_patches(0).shape[0] == 2
    assert inputs.profile == f"transformers-{version}"


def test_one_frame_of_an_array_cannot_be_sampled_before_5_18(of_release):
    clip = np.zeros((4, 30, 40, 3), np.uint8)
    with pytest.raises(InputError, match=r"one frame of an array"):
        of_release("5.17")(text="<|video|>", videos=clip, num_frames=1)
    assert of_release("5.18")(text="<|video|>", videos=clip, num_frames=1)["pixel_values_videos"].shape[-3] == 1
    unsampled = of_release("5.17")(text="<|video|>", videos=clip[:1], do_sample_frames=False)
    assert unsampled["pixel_values_videos"].shape == (1, 1, 70, 6912)


def test_videos_of_different_length_cannot_be_stacked(of_release):
    clips = [np.zeros((frames, 30, 40, 3), np.uint8) for frames in (2, 3)]
    with pytest.raises(InputError, match="cannot be stacked"):
        of_release("5.12")(text="<|video|><|video|>", videos=clips, do_sample_frames=False)


@pytest.mark.parametrize("version", ["5", "five", "5.9", "4.57.1"])
def test_what_is_no_release_with_this_model_is_refused(version):
    with pytest.raises(InputError, match="transformers"):
        Profile.transformers(version)
