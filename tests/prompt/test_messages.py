"""Reading conversations: forms, order, copies, and every malformed part refused with its place."""

import copy
import dataclasses
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gemma4_mm.errors import InputError
from gemma4_mm.prompt.messages import MediaPart, read_conversations
from gemma4_mm.releases import Profile

PIXELS = np.zeros((2, 2, 3), np.uint8)
DATA_URI = "data:image/png;base64,AAAA"


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def only_media(part: dict[str, Any]) -> MediaPart:
    (conversation,) = read_conversations(user(part)).conversations
    (media,) = conversation.media
    return media


@pytest.mark.parametrize(
    ("part", "kind", "form", "source"),
    [
        ({"type": "image", "image": PIXELS}, "image", "image", PIXELS),
        ({"type": "image", "url": "https://x/y.png"}, "image", "url", "https://x/y.png"),
        ({"type": "image", "url": DATA_URI}, "image", "url", DATA_URI),
        ({"type": "image", "path": "a.png", "image": None, "url": ""}, "image", "path", "a.png"),
        ({"type": "image", "base64": "AAAA"}, "image", "base64", "AAAA"),
        ({"type": "audio", "audio": PIXELS}, "audio", "audio", PIXELS),
        ({"type": "audio", "path": "a.wav", "text": None}, "audio", "path", "a.wav"),
        ({"type": "video", "video": "a.mp4"}, "video", "video", "a.mp4"),
        ({"type": "image_url", "image_url": {"url": DATA_URI, "detail": "high"}}, "image", "url", DATA_URI),
        ({"type": "image_url", "image_url": "x.png"}, "image", "url", "x.png"),
        ({"type": "video_url", "video_url": {"url": "x.mp4"}}, "video", "url", "x.mp4"),
        ({"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}, "audio", "base64", "UklG"),
        ({"type": "input_audio", "input_audio": {"data": "data:audio/wav;base64,UklG"}}, "audio", "url", None),
    ],
)
def test_every_form_of_media_is_read(part: dict[str, Any], kind: str, form: str, source: Any) -> None:
    media = only_media(part)
    assert (media.kind, media.form, media.where) == (kind, form, "message 0, part 0")
    assert media.source is source or source is None
    assert read_conversations(user(part)).conversations[0].messages[0]["content"][0]["type"] == kind


def test_media_keep_the_order_of_appearance_over_messages_and_tools() -> None:
    messages = [
        *user({"type": "text", "text": "a"}, {"type": "audio", "path": "1.wav"}, {"type": "image", "path": "2.png"}),
        {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
        {"role": "tool", "content": [{"type": "image_url", "image_url": "3.png"}]},
        *user({"type": "video", "path": "4.mp4"}),
    ]
    (conversation,) = read_conversations(messages).conversations
    assert [(part.source, part.where) for part in conversation.media] == [
        ("1.wav", "message 0, part 1"),
        ("2.png", "message 0, part 2"),
        ("3.png", "message 2, part 0"),
        ("4.mp4", "message 3, part 0"),
    ]


def test_a_batch_is_read_in_order_and_says_so() -> None:
    batch = read_conversations([user({"type": "image", "path": "a"}), user({"type": "image", "path": "b"})])
    assert batch.is_batched
    assert [part.where for item in batch.conversations for part in item.media] == [
        "conversation 0, message 0, part 0",
        "conversation 1, message 0, part 0",
    ]
    assert not read_conversations(user()).is_batched
    assert read_conversations([SimpleNamespace(messages=user())]).is_batched
    assert not read_conversations(SimpleNamespace(messages=user())).is_batched


def test_objects_of_other_libraries_are_read_as_dicts() -> None:
    @dataclasses.dataclass
    class Message:
        role: str
        content: Any

    picture = io.BytesIO(b"png")
    pydantic = SimpleNamespace(model_dump=lambda: {"role": "assistant", "content": None, "tool_calls": None})
    batch = read_conversations([Message("user", ({"type": "image", "image": picture},)), pydantic])
    (conversation,) = batch.conversations
    assert conversation.messages == (
        {"role": "user", "content": [{"type": "image", "image": picture}]},
        {"role": "assistant", "content": []},
    )
    assert conversation.media[0].source is picture


def test_other_keys_are_left_to_the_template() -> None:
    message = {
        "role": "assistant",
        "tool_calls": [{"id": "1"}],
        "reasoning": "r",
        "anything": {"a": [1]},
        "content": "c",
    }
    assert read_conversations([message]).conversations[0].messages == (message,)


def test_keys_whose_value_is_none_follow_the_profile() -> None:
    message = [{"role": "assistant", "content": None, "tool_calls": None}]
    dropped = read_conversations(message, collect_media=False)
    kept = read_conversations(message, profile=Profile.transformers("5.23"), collect_media=False)
    assert dropped.conversations[0].messages == ({"role": "assistant"},)
    assert kept.conversations[0].messages == ({"role": "assistant", "content": None, "tool_calls": None},)


def test_nothing_of_the_result_is_the_callers() -> None:
    messages = user({"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}})
    messages[0]["extra"] = {"a": [1]}
    before = copy.deepcopy(messages)
    (conversation,) = read_conversations(messages).conversations
    message = conversation.messages[0]
    message["content"][0]["text"] = "changed"
    message["content"].clear()
    message["extra"]["a"].append(2)
    message.clear()
    assert messages == before


def test_a_placeholder_alone_is_enough_where_no_media_are_collected() -> None:
    parts = [{"type": kind} for kind in ("image", "audio", "video", "image_url", "input_audio", "video_url")]
    (conversation,) = read_conversations(user(*parts), collect_media=False).conversations
    assert conversation.media == ()
    assert [part["type"] for part in conversation.messages[0]["content"]] == ["image", "audio", "video"] * 2


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "picture", "url": "x"}, "has the unknown type 'picture'; known are: text, image, video, audio"),
        ({"text": "no type"}, "has the unknown type None"),
        ({"type": ["image"]}, r"has the unknown type \['image'\]"),
        ({"type": "input_image", "image_url": "x"}, "has the unknown type 'input_image'"),
        ("text", "is str; give a dict such as"),
        (None, "is NoneType; give a dict such as"),
        (PIXELS, "is ndarray; give a dict such as"),
        ({"type": "text"}, "is a text part without a string under 'text'"),
        ({"type": "text", "text": None}, "is a text part without a string"),
        ({"type": "text", "content": "x"}, "is a text part without a string"),
        ({"type": "image"}, "is of type image with no source; give exactly one of: image, url, path, base64"),
        ({"type": "image", "image": None}, "is of type image with no source"),
        ({"type": "image", "url": ""}, "is of type image with no source"),
        ({"type": "image", "image": PIXELS, "url": "x"}, "is of type image with image and url; give exactly one"),
        ({"type": "image", "path": "x", "base64": "y"}, "is of type image with path and base64"),
        ({"type": "image", "audio": "x"}, "is of type image with audio; give exactly one of: image"),
        ({"type": "image", "image_url": "x"}, "is of type image with image_url"),
        ({"type": "image_url", "url": "x"}, "is of type image_url with url; give exactly one of: image_url"),
        ({"type": "image_url"}, "is of type image_url with no source"),
        (
            {"type": "image_url", "image_url": {"href": "x"}},
            "is of type image_url without a string; give {'image_url': {'url': …}}",
        ),
        ({"type": "image_url", "image_url": {"url": b"x"}}, "is of type image_url without a string"),
        ({"type": "video_url", "video_url": 5}, "is of type video_url without a string"),
        (
            {"type": "input_audio", "input_audio": "UklG"},
            "is of type input_audio without a string; give {'input_audio': {'data': …}}",
        ),
        ({"type": "input_audio", "input_audio": {"format": "wav"}}, "is of type input_audio without a string"),
    ],
)
def test_a_malformed_part_is_refused_with_its_place(part: Any, message: str) -> None:
    messages = [*user(), *user({"type": "text", "text": "ok"}, part)]
    with pytest.raises(InputError, match=f"^message 1, part 1 {message}"):
        read_conversations(messages)
    with pytest.raises(InputError, match=f"^conversation 1, message 1, part 1 {message}"):
        read_conversations([user(), messages])


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ([], "the conversation is empty"),
        ("Hello", "a conversation is str, not a list"),
        (None, "a conversation is NoneType, not a list"),
        ({"role": "user", "content": "x"}, "a conversation is dict, not a list"),
        (["Hello"], "message 0 is str; give a dict"),
        ([{"role": "user", "content": "x"}, 5], "message 1 is int; give a dict"),
        ([{"role": "user", "content": 5}], "message 0 has content of type int; give a string or a list of parts"),
        ([{"role": "user", "content": {"type": "text"}}], "message 0 has content of type dict"),
        ([user(), {"role": "user"}], "conversation 1, a conversation is dict, not a list"),
        ([user(), ["x"]], "conversation 1, message 0 is str"),
    ],
)
def test_what_is_no_conversation_is_refused(conversation: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        read_conversations(conversation)
