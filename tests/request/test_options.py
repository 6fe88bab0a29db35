"""Call arguments: flat and nested, defaults, and what is refused."""

import pytest

from gemma4_mm.assets.processor_config import ProcessorConfig
from gemma4_mm.errors import InputError
from gemma4_mm.request.options import resolve_options

CONFIG = ProcessorConfig()


def resolve(**kwargs):
    return resolve_options(kwargs, config=CONFIG)


def test_defaults_are_those_of_the_reference():
    options = resolve()
    assert (options.image_soft_tokens, options.video.max_soft_tokens, options.video.sampling.num_frames) == (
        280,
        70,
        32,
    )
    assert options.video.sampling.do_sample_frames
    assert (options.text.padding, options.text.side, options.text.truncation) == ("longest", "left", False)
    assert (options.audio.padding, options.audio.max_length) == ("longest", None)


def test_a_flat_argument_reaches_every_modality_that_knows_it():
    options = resolve(max_soft_tokens=560, padding="max_length", max_length=99)
    assert (options.image_soft_tokens, options.video.max_soft_tokens) == (560, 560)
    assert (options.text.max_length, options.audio.max_length) == (99, 99)
    assert (options.text.padding, options.audio.padding) == ("max_length", "max_length")


def test_a_nested_argument_reaches_one():
    options = resolve(videos_kwargs={"max_soft_tokens": 140}, audio_kwargs={"max_length": 5})
    assert (options.image_soft_tokens, options.video.max_soft_tokens) == (280, 140)
    assert (options.text.max_length, options.audio.max_length) == (None, 5)
    assert options.audio.truncation


def test_a_bare_maximum_truncates_unpadded_text_as_the_reference_does():
    assert resolve(max_length=4, padding=False).text.truncation
    assert not resolve(max_length=4).text.truncation


@pytest.mark.parametrize("kwargs", [{"return_tensors": "np"}, {"do_resize": True}, {"sampling_rate": 16000}])
def test_arguments_that_change_nothing_are_accepted(kwargs):
    assert resolve(**kwargs) == resolve()


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"max_soft_token": 280}, "unknown argument 'max_soft_token'; known are"),
        ({"images_kwargs": {"num_frames": 2}}, "unknown argument 'num_frames' in images_kwargs"),
        ({"max_soft_tokens": 100}, "must be one of"),
        ({"max_soft_tokens": True}, "must be one of"),
        ({"max_soft_tokens": 70, "images_kwargs": {"max_soft_tokens": 70}}, "passed twice"),
        ({"num_frames": 4, "fps": 1}, "pass one of them"),
        ({"fps": 2}, "clashes with the configured num_frames 32"),
        ({"num_frames": 0}, "at least 1"),
        ({"fps": -1.0}, "above 0"),
        ({"do_sample_frames": 1}, "True or False"),
        ({"padding": "longer"}, "padding of text"),
        ({"truncation": "middle"}, "truncation of text"),
        ({"padding_side": "top"}, "'left' or 'right'"),
        ({"return_tensors": "pt"}, "torch.from_numpy"),
        ({"do_resize": False}, "do_resize=False is not supported"),
        ({"sampling_rate": 44_100}, "resample the audio first"),
        ({"truncation": True, "max_length": 10, "pad_to_multiple_of": 8}, "not a multiple"),
    ],
)
def test_a_bad_argument_is_refused_in_words(kwargs, words):
    with pytest.raises(InputError, match=words):
        resolve(**kwargs)
