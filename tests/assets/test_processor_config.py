"""`processor_config.json`: what it sets, and what is refused because nothing here does it."""

import copy
import json
import re

import pytest

from gemma4_mm import InputError, Processor
from gemma4_mm.assets.processor_config import ProcessorConfig


@pytest.fixture(scope="module")
def published(assets):
    return assets.read_processor_config()


def test_the_published_file_sets_the_published_numbers(published):
    assert ProcessorConfig.from_json(published) == ProcessorConfig()
    assert ProcessorConfig() == ProcessorConfig(image_soft_tokens=280, video_soft_tokens=70, video_frames=32)


def test_fields_that_may_vary_are_taken():
    data = {"image_processor": {"max_soft_tokens": 560}, "video_processor": {"max_soft_tokens": 140, "num_frames": 5}}
    wanted = ProcessorConfig(image_soft_tokens=560, video_soft_tokens=140, video_frames=5)
    assert ProcessorConfig.from_json(data) == wanted


def test_fields_that_change_nothing_are_accepted(published):
    data = copy.deepcopy(published)
    data |= {"image_seq_length": 1, "audio_seq_length": 2, "processor_class": "Mine"}
    for section in ("image_processor", "video_processor"):
        data[section]["do_normalize"] = not data[section]["do_normalize"]
    assert ProcessorConfig.from_json(data) == ProcessorConfig()


REFUSED = [
    ("feature_extractor", "sampling_rate", 24_000),
    ("feature_extractor", "audio_samples_per_token", 320),
    ("feature_extractor", "feature_size", 128),
    ("feature_extractor", "padding_side", "left"),
    ("feature_extractor", "padding_value", 1.0),
    ("image_processor", "max_soft_tokens", 100),
    ("image_processor", "max_soft_tokens", None),
    *((part, *setting) for part in ("image_processor", "video_processor") for setting in (
        ("patch_size", 14),
        ("pooling_kernel_size", 2),
        ("resample", 2),
        ("rescale_factor", 1 / 127.5),
        ("image_mean", [0.5, 0.5, 0.5]),
        ("image_std", [0.5, 0.5, 0.5]),
        ("do_resize", False),
        ("do_rescale", False),
        ("do_convert_rgb", False),
    )),
    ("video_processor", "max_soft_tokens", "70"),
    ("video_processor", "num_frames", 0),
    ("video_processor", "num_frames", 8.0),
    ("video_processor", "num_frames", True),
    ("video_processor", "num_frames", None),
    ("video_processor", "do_sample_frames", False),
    ("video_processor", "fps", 2),
]  # fmt: skip


@pytest.mark.parametrize(("section", "field", "value"), REFUSED)
def test_what_is_not_implemented_is_refused_by_name(published, section, field, value):
    data = copy.deepcopy(published)
    data[section][field] = value
    with pytest.raises(InputError, match=re.escape(f"processor_config.json sets {section}.{field} to {value!r}")):
        ProcessorConfig.from_json(data)


def test_another_length_of_an_audio_token_is_refused(published):
    with pytest.raises(InputError, match=r"sets audio_ms_per_token to 20; only 40 is reproduced"):
        ProcessorConfig.from_json(published | {"audio_ms_per_token": 20})


@pytest.mark.parametrize("section", ["image_processor", "video_processor", "feature_extractor"])
@pytest.mark.parametrize("value", [None, [], "16000"])
def test_a_section_must_be_an_object(published, section, value):
    with pytest.raises(InputError, match=re.escape(f"sets {section} to {value!r}; it must be an object")):
        ProcessorConfig.from_json(published | {section: value})


def test_a_processor_over_such_a_file_is_not_built(assets, published, tmp_path):
    for file in assets.tokenizer.parent.iterdir():
        (tmp_path / file.name).symlink_to(file)
    data = published | {"feature_extractor": published["feature_extractor"] | {"sampling_rate": 24_000}}
    (tmp_path / "processor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"feature_extractor\.sampling_rate to 24000"):
        Processor.from_pretrained(tmp_path)
