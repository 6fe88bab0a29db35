"""The table of releases: what each row says, which releases are refused, and that the newest is the one tested with."""

import json
import re
import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from gemma4_mm import InputError, Profile
from gemma4_mm.releases import DEFAULT_PROFILE, DEFAULT_RELEASE, RELEASES, Changes

ROOT = Path(__file__).parent.parent
NEWEST = list(RELEASES)[-1]
SINCE = [  # attribute, value, the last release without it, the first with it
    ("frame_sampling", "integer", "5.17.9", "5.18"),
    ("video_layout", "concatenated", "5.18.1", "5.19.0"),
    ("alpha", "white", "5.20.3", "5.21"),
    ("string_image_exif", "applied", "5.20.3", "5.21"),
    ("none_keys", "dropped", "5.23.2", "5.24"),
]


def numbers(version):
    return tuple(map(int, version.split(".")))


def test_rows_stand_in_order_of_release():
    assert list(RELEASES) == sorted(RELEASES, key=numbers)


def test_a_row_changes_what_stands_above_it():
    so_far = {}
    for row, changes in RELEASES.items():
        assert all(so_far.get(name) != value for name, value in changes.items()), row
        so_far |= changes
        profile = asdict(Profile.transformers(row))
        assert profile.pop("name") == f"transformers-{row}"
        assert profile == so_far


def test_every_attribute_of_a_profile_but_its_name_may_change():
    hints = get_type_hints(Profile)
    assert {field.name: hints[field.name] for field in fields(Profile)} == {"name": str, **get_type_hints(Changes)}
    for changes in RELEASES.values():
        for name, value in changes.items():
            assert value in (get_args(hints[name]) or (value,)), name


@pytest.mark.parametrize(("attribute", "value", "before", "first"), SINCE)
def test_behaviour_changes_at_its_release(attribute, value, before, first):
    assert getattr(Profile.transformers(before), attribute) != value
    for release in (first, NEWEST):
        assert getattr(Profile.transformers(release), attribute) == value


@pytest.mark.parametrize("version", ["5.10", "5.10.1", "5.17", "5.24"])
def test_numbers_that_no_release_changed(version):
    profile = Profile.transformers(version)
    assert (profile.image_soft_tokens, profile.video_soft_tokens, profile.video_frames) == (280, 70, 32)
    assert profile.unknown_fps == 24.0


def test_a_later_patch_of_the_newest_known_release_is_that_release():
    later = Profile.transformers(f"{NEWEST}.99")
    assert asdict(later) == asdict(Profile.transformers(NEWEST)) | {"name": f"transformers-{NEWEST}.99"}


@pytest.mark.parametrize("version", ["9.9", "6.0.0", f"5.{numbers(NEWEST)[1] + 1}"])
def test_a_release_later_than_the_newest_known_is_refused_by_name(version):
    words = f"transformers {version} is later than {NEWEST}, the newest release that this package knows"
    with pytest.raises(InputError, match=re.escape(words)):
        Profile.transformers(version)


@pytest.mark.parametrize("version", ["5.9", "5.9.7", "4.57.1"])
def test_a_release_before_the_model_is_refused(version):
    with pytest.raises(InputError, match=r"has no gemma4_unified; the first that has it is 5\.10\.1"):
        Profile.transformers(version)


@pytest.mark.parametrize("version", ["5", "five", "", "5.24rc1", "5.24.0.0", "-5.24"])
def test_what_is_no_version_is_refused(version):
    with pytest.raises(InputError, match="is not a transformers version"):
        Profile.transformers(version)


def test_the_newest_known_release_is_the_one_that_tests_and_goldens_are_held_to():
    """A row above what anybody has run would promise behaviour that nobody has seen."""
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (pin,) = (name for name in pins["parity"] if name.startswith("transformers=="))
    golden = json.loads((ROOT / "tests" / "goldens" / "processor.json").read_text(encoding="utf-8"))
    fixtures = json.loads((ROOT / "fixtures" / "manifest.json").read_text(encoding="utf-8"))
    for version in (
        pin.removeprefix("transformers=="),
        *(of["producers"]["transformers"] for of in (golden, fixtures)),
    ):
        assert numbers(version)[:2] == numbers(NEWEST)[:2]
    assert Profile.transformers() == DEFAULT_PROFILE
    assert numbers(DEFAULT_RELEASE) <= numbers(NEWEST)


@pytest.mark.parity
def test_the_newest_known_release_is_the_installed_oracles_and_has_its_defaults():
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    assert numbers(transformers.__version__)[:2] == numbers(NEWEST)[:2]
    from transformers.models.gemma4_unified import image_processing_gemma4_unified as images
    from transformers.models.gemma4_unified import video_processing_gemma4_unified as videos

    profile = Profile.transformers(NEWEST)
    video = videos.Gemma4UnifiedVideoProcessor
    assert profile.image_soft_tokens == images.Gemma4UnifiedImageProcessor.max_soft_tokens
    assert (profile.video_soft_tokens, profile.video_frames) == (video.max_soft_tokens, video.num_frames)
