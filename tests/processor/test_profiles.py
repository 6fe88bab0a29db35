"""Releases by name: earlier ones, as seen by running transformers 5.12.0, 5.20.0 and 5.24.0, and one to come."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gemma4_mm import InputError, ModelInputs, Processor, Profile, releases
from gemma4_mm.cli.report import describe, format_summary
from gemma4_mm.conformance.records import Case
from gemma4_mm.conformance.subject import OwnSubject


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


@pytest.fixture
def fictional(monkeypatch):
    """transformers 5.99, which samples 64 frames: one row of the table."""
    monkeypatch.setattr(releases, "RELEASES", {**releases.RELEASES, "5.99": {"video_frames": 64}})
    return Profile.transformers("5.99")


@pytest.fixture
def silent(assets):
    """The published files without `processor_config.json`, so that the defaults are the release's."""
    return replace(assets, processor_config=None)


def test_a_release_with_64_frames_is_a_row_of_the_table(fictional, silent):
    clip = np.zeros((80, 30, 40, 3), np.uint8)
    clip[:] = np.arange(80)[:, None, None, None]
    processor = Processor(silent, profile=fictional)
    inputs = processor(text="<|video|>", videos=clip)
    assert inputs["num_frames_per_video"].tolist() == [64]
    assert inputs["pixel_values_videos"].shape == (64, 70, 6912)
    shown = np.round(inputs["pixel_values_videos"][:, 0, 0] * 255).astype(int)
    assert shown.tolist() == (np.arange(64) * 80 // 64).tolist()
    plan = processor.plan(text="<|video|>", videos=clip)
    assert np.array_equal(plan.input_ids, inputs["input_ids"])
    assert len(processor.stream_video(clip)) == 64
    assert Processor(silent)(text="<|video|>", videos=clip)["num_frames_per_video"].tolist() == [32]


def test_such_a_release_names_itself_in_content_keys_and_reports(fictional, silent, tmp_path):
    clip = np.zeros((4, 30, 40, 3), np.uint8)
    ours, now = (
        Processor(silent, profile=profile)(text="<|video|>", videos=clip, num_frames=2)
        for profile in (fictional, Profile.transformers("5.24"))
    )
    assert ours["pixel_values_videos"].tobytes() == now["pixel_values_videos"].tobytes()
    assert ours.profile == "transformers-5.99"
    assert ours.content_keys["video"] != now.content_keys["video"]
    ours.save(tmp_path / "inputs.safetensors")
    assert ModelInputs.load(tmp_path / "inputs.safetensors").profile == "transformers-5.99"
    summary = describe(ours, seconds={})
    assert summary["profile"] == "transformers-5.99"
    assert "bit-identical to transformers-5.99" in format_summary(summary)
    assert fictional.at_least("5.98")


def test_the_harness_follows_such_a_release(fictional, silent):
    case = Case(
        name="eighty-frames", kind="video", inputs={"frames": np.zeros((80, 30, 40, 3), np.uint8)}, summary="A clip."
    )
    stages = OwnSubject(Processor(silent, profile=fictional))(case)
    assert stages["frame_indices"].tolist() == (np.arange(64) * 80 // 64).tolist()
    assert len(stages["patches"]) == len(stages["resized_rgb"]) == 64


def test_a_count_in_the_processors_file_wins_over_the_releases(fictional, assets):
    clip = np.zeros((80, 30, 40, 3), np.uint8)
    inputs = Processor(assets, profile=fictional)(text="<|video|>", videos=clip)
    assert inputs["num_frames_per_video"].tolist() == [32]  # the published file says so


def test_a_frame_rate_that_nobody_names_is_the_releases(monkeypatch, silent):
    monkeypatch.setattr(releases, "RELEASES", {**releases.RELEASES, "5.99": {"unknown_fps": 2.0}})
    clip = np.zeros((9, 30, 40, 3), np.uint8)
    texts = []
    for version in ("5.24", "5.99"):
        processor = Processor(silent, profile=Profile.transformers(version))
        texts.append(processor.decode(processor(text="<|video|>", videos=clip, num_frames=3)["input_ids"][0]))
    assert [re.findall(r"\d\d:\d\d", text) for text in texts] == [["00:00"] * 3, ["00:00", "00:01", "00:03"]]
