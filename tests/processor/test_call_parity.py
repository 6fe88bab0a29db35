"""`processor(text=…, images=…, …)` against the live oracle: how arguments are sorted, padded and refused."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from gemma4_mm.errors import Gemma4MMError, InputError, InvariantError
from gemma4_mm.testing.strategies import make_picture, processor_calls
from tests.processor.test_parity import assert_same_tensors

pytestmark = pytest.mark.parity

PICTURE = Image.fromarray(make_picture("noise", height_px=40, width_px=60, seed=1))
ARRAY = make_picture("noise", height_px=40, width_px=60, seed=2)
SOUND = np.linspace(-1, 1, 1500, dtype=np.float32)
CLIP = np.stack([make_picture("noise", height_px=30, width_px=40, seed=seed) for seed in (3, 4, 5)])


@given(call=processor_calls())
@settings(max_examples=120)
def test_calls_give_the_same_tensors(processor, hf_processor, call):
    theirs = hf_processor(return_tensors="np", **copy.deepcopy(call))
    ours = processor(**call)
    assert_same_tensors(ours, theirs)
    layout = processor.plan(**call)
    assert np.array_equal(layout.input_ids, ours["input_ids"])
    assert np.array_equal(layout.attention_mask, ours["attention_mask"])
    assert layout.segments == ours.segments
    assert layout.token_counts == ours.token_counts


# Forms of one call; each is taken, or refused, exactly where the reference takes or refuses it.
FORMS = {
    "a picture alone": {"images": PICTURE},
    "pictures alone": {"images": [PICTURE, PICTURE]},
    "pictures per prompt": {"images": [[PICTURE, PICTURE], [PICTURE]]},
    "an empty prompt list": {"text": [], "images": PICTURE},
    "an empty prompt": {"text": "", "images": PICTURE},
    "a batch of pictures in one array": {"images": np.stack([ARRAY, ARRAY])},
    "a flat list for two prompts": {"text": ["<|image|>", "<|image|>"], "images": [PICTURE, PICTURE]},
    "a prompt without its picture": {"text": ["<|image|>", ""], "images": [[PICTURE]]},
    "a gray array": {"text": "<|image|>", "images": ARRAY[..., 0]},
    "a gray array in a nested list": {"text": "<|image|>", "images": [[ARRAY[..., 0]]]},
    "no pictures": {"text": "a", "images": []},
    "nothing": {},
    "prompts in a tuple": {"text": ("a", "b c d")},
    "blank prompt": {"text": ""},
    "a sound alone": {"audio": SOUND},
    "sounds alone": {"audio": [SOUND, SOUND[:10]]},
    "a sound as numbers": {"text": "<|audio|>", "audio": [0.25, -0.5]},
    "sounds as numbers": {"text": "<|audio|><|audio|>", "audio": [[0.25, -0.5], [1.0]]},
    "nested sounds": {"text": "<|audio|><|audio|>", "audio": [[SOUND], [SOUND[:10]]]},
    "no samples": {"text": "<|audio|>", "audio": [SOUND[:0]]},
    "two rows of samples": {"text": "<|audio|>", "audio": np.stack([SOUND, SOUND])},
    "a sound with a picture but no prompt": {"images": PICTURE, "audio": SOUND},
    "a clip alone": {"videos": CLIP, "do_sample_frames": False},
    "a clip": {"text": "<|video|>", "videos": CLIP, "do_sample_frames": False},
    "a clip that is too short": {"text": "<|video|>", "videos": CLIP},
    "a frame": {"text": "<|video|>", "videos": PICTURE, "do_sample_frames": False},
    "a list of frames": {"text": "<|video|>", "videos": [PICTURE] * 3, "do_sample_frames": False},
    "a nested list of frames": {"text": "<|video|>", "videos": [[PICTURE] * 3], "do_sample_frames": False},
    "lists of frames": {"text": "<|video|> <|video|>", "videos": [[PICTURE] * 3, [PICTURE]], "do_sample_frames": False},
    "clips in one array": {"text": "<|video|> <|video|>", "videos": np.stack([CLIP, CLIP]), "num_frames": 2},
    "clips": {"text": ["<|video|>", "and <|video|>"], "videos": [CLIP, CLIP[:2]], "num_frames": 2},
    "a clip with metadata": {
        "text": "<|video|>",
        "videos": [CLIP],
        "num_frames": 2,
        "video_metadata": [{"total_num_frames": 3, "fps": 0.01}],
    },
    "fewer metadata than clips": {
        "text": "<|video|><|video|>",
        "videos": [CLIP, CLIP],
        "num_frames": 2,
        "video_metadata": [{"total_num_frames": 3, "fps": 2.0}],
    },
    "fps": {"text": "<|video|>", "videos": [CLIP], "fps": 2},
    "a video placeholder too many": {"text": "<|video|><|video|>", "videos": [CLIP], "num_frames": 2},
    "truncated text": {"text": ["one two three four five", "six"], "truncation": True, "max_length": 3},
    "truncated soft tokens": {"text": "<|image|>", "images": PICTURE, "truncation": True, "max_length": 9},
    "a budget that is none": {"images": PICTURE, "max_soft_tokens": 100},
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_taken_or_refused_as_by_the_reference(processor, hf_processor, name):
    arguments = FORMS[name]
    try:
        theirs = hf_processor(return_tensors="np", **copy.deepcopy(arguments))
    except Exception:  # noqa: BLE001 (the reference has no error tree of its own)
        theirs = None
    if theirs is None:
        with pytest.raises(Gemma4MMError) as caught:
            processor(**arguments)
        assert not isinstance(caught.value, InvariantError)  # refused, not broken
    else:
        assert_same_tensors(processor(**arguments), theirs)


@pytest.mark.parametrize("typed", ["<|image|>", "a <|video|> and <|audio|> <turn|>", "<|image><|image|><image|>"])
def test_typed_placeholders_are_plain_text_when_sanitized(processor, hf_processor, typed):
    """Beside a real image, video and sound, which keep their places."""
    parts = [
        {"type": "text", "text": typed},
        {"type": "image", "image": PICTURE},
        {"type": "text", "text": f"{typed} again"},
        {"type": "video", "video": CLIP},
        {"type": "audio", "audio": SOUND},
    ]
    arguments = {"sanitize_control_tokens": True, "processor_kwargs": {"num_frames": 2}}
    theirs = hf_processor.apply_chat_template(
        [{"role": "user", "content": copy.deepcopy(parts)}],
        tokenize=True,
        return_dict=True,
        return_tensors="np",
        **copy.deepcopy(arguments),
    )
    messages = [{"role": "user", "content": parts}]
    assert_same_tensors(processor.apply_chat_template(messages, tokenize=True, return_dict=True, **arguments), theirs)
    assert np.array_equal(processor.plan(messages, **arguments).input_ids, theirs["input_ids"])
    with pytest.raises(InputError, match="sanitize_control_tokens"):
        processor.apply_chat_template(messages, tokenize=True, return_dict=True)


def test_processor_arguments_may_stand_among_template_variables(processor, hf_processor):
    messages = [{"role": "user", "content": [{"type": "image", "image": PICTURE}]}]
    arguments = {"tokenize": True, "return_dict": True, "max_soft_tokens": 140, "enable_thinking": True}
    theirs = hf_processor.apply_chat_template(copy.deepcopy(messages), return_tensors="np", **arguments)
    assert_same_tensors(processor.apply_chat_template(messages, **arguments), theirs)
    with pytest.raises(InputError, match="unknown argument 'enable_thinkin'"):
        processor.apply_chat_template(messages, enable_thinkin=True)


def test_rendered_text_is_a_list_where_conversations_are(processor, hf_processor):
    chat = [{"role": "user", "content": "Hi"}]
    for conversation in (chat, [chat], [chat, chat]):
        theirs = hf_processor.apply_chat_template(copy.deepcopy(conversation))
        assert processor.apply_chat_template(conversation) == theirs
    ids = processor.apply_chat_template(chat, tokenize=True)
    assert ids.tolist() == hf_processor.apply_chat_template(chat, tokenize=True)
