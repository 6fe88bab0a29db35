"""Conversations as people write them, read into messages for the chat template and media in order of appearance.

Accepted are Hugging Face's parts (`{"type": "image", "url": …}`) and OpenAI's (`image_url`, `input_audio` and
`video_url`). Unlike the reference, which lets some of them pass in silence, an unknown part and a media part without a
source or with several are errors: each of them would put the model's text and media out of step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gemma4_mm.errors import InputError, shown
from gemma4_mm.prompt.plain import bounded_nesting, to_dicts
from gemma4_mm.releases import DEFAULT_PROFILE, Profile
from gemma4_mm.spec import MediaKind

_MEDIA_TYPES: Final[Mapping[str, MediaKind]] = {
    "image": "image",
    "video": "video",
    "audio": "audio",
    "image_url": "image",
    "video_url": "video",
    "input_audio": "audio",
}
_SOURCE_KEYS: Final = (*_MEDIA_TYPES, "url", "path", "base64")


@dataclass(frozen=True, kw_only=True)
class MediaPart:
    """One image, video or audio of a conversation, not yet opened.

    Attributes:
        kind: what it is.
        form: the key that held it: `url` (a `data:` URI or a path too, as HF takes them), `path`, `base64`, or the kind
            itself, which can hold any of these or a decoded object.
        source: the value.
        where: its place in words, such as "message 2, part 0", for errors.
    """

    kind: MediaKind
    form: str
    source: Any
    where: str


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One conversation, read.

    Attributes:
        messages: as the reference hands them to its chat template; no part of them is the caller's own dict or list.
        media: its media in order of appearance.
    """

    messages: tuple[dict[str, Any], ...]
    media: tuple[MediaPart, ...]


@dataclass(frozen=True, kw_only=True)
class ConversationBatch:
    """What one call was given.

    Attributes:
        conversations: in order; one where a single conversation was given.
        is_batched: whether a list of conversations was given, so that the answer is a list too.
    """

    conversations: tuple[Conversation, ...]
    is_batched: bool


def read_conversations(
    conversation: Any, *, profile: Profile = DEFAULT_PROFILE, collect_media: bool = True
) -> ConversationBatch:
    """Read one conversation, or a list of them.

    Source of the message layout: transformers 5.24 `_normalize_conversations`, `_multimodal_inputs_from_conversations`.

    Args:
        conversation: a list of messages (dicts, dataclasses or pydantic objects with `role` and `content`), an object
            with `messages`, or a list of such. `content` is a string or a list of parts. All other keys (tool calls,
            reasoning) are left to the template. A key whose value is None counts as absent in a part; in a message
            that is up to `profile.none_keys`.
        profile: the reference behaviour.
        collect_media: whether the media will be processed, as in HF with `tokenize=True`. Otherwise a media part may
            come without a source, since only its placeholder is needed, and `media` stays empty.

    Raises:
        InputError: not a conversation, an unknown part, or a media part without a source or with several; the message
            names the message and the part.
    """
    is_batched = _is_batch(conversation)
    drop_none = profile.none_keys == "dropped"
    conversations = tuple(
        _read_conversation(
            item,
            place=f"conversation {index}, " if is_batched else "",
            drop_none=drop_none,
            collect_media=collect_media,
        )
        for index, item in enumerate(conversation if is_batched else [conversation])
    )
    return ConversationBatch(conversations=conversations, is_batched=is_batched)


@dataclass(frozen=True, kw_only=True)
class _Part:
    template: dict[str, Any]
    media: MediaPart | None = None


def _is_batch(conversation: Any) -> bool:
    if not isinstance(conversation, list | tuple):
        return False
    if not conversation:
        raise InputError("the conversation is empty; give at least one message")
    return isinstance(conversation[0], list | tuple) or hasattr(conversation[0], "messages")


def _read_conversation(value: Any, *, place: str, drop_none: bool, collect_media: bool) -> Conversation:
    with bounded_nesting():
        given = to_dicts(getattr(value, "messages", value))
    if not isinstance(given, list | tuple):
        raise InputError(f"{place}a conversation is {type(given).__name__}, not a list; give a list of messages")
    messages: list[dict[str, Any]] = []
    media: list[MediaPart] = []
    for index, message in enumerate(given):
        where = f"{place}message {index}"
        if not isinstance(message, dict):
            raise InputError(f"{where} is {type(message).__name__}; give a dict such as {{'role': …, 'content': …}}")
        parts = _read_parts(message.get("content"), where=where, collect_media=collect_media)
        message = {key: item for key, item in message.items() if item is not None or not drop_none}
        # With media to collect, the reference leaves a list wherever there is no text: tool results render by it
        if parts or (collect_media and not message.get("content")):
            message["content"] = [part.template for part in parts]
        messages.append(message)
        media.extend(part.media for part in parts if part.media is not None)
    return Conversation(messages=tuple(messages), media=tuple(media))


def _read_parts(content: Any, *, where: str, collect_media: bool) -> list[_Part]:
    if content is None or isinstance(content, str):
        return []
    if not isinstance(content, list | tuple):
        raise InputError(f"{where} has content of type {type(content).__name__}; give a string or a list of parts")
    return [
        _read_part(part, where=f"{where}, part {index}", collect_media=collect_media)
        for index, part in enumerate(content)
    ]


def _read_part(part: Any, *, where: str, collect_media: bool) -> _Part:
    if not isinstance(part, dict):
        raise InputError(f"{where} is {type(part).__name__}; give a dict such as {{'type': 'text', 'text': …}}")
    name = part.get("type")
    if name == "text":
        if not isinstance(part.get("text"), str):
            raise InputError(
                f"{where} is a text part without a string under 'text'; give {{'type': 'text', 'text': …}}"
            )
        return _Part(template=part)
    if not isinstance(name, str) or name not in _MEDIA_TYPES:
        raise InputError(f"{where} has the unknown type {shown(name)}; known are: text, {', '.join(_MEDIA_TYPES)}")
    _check_sources(part, name, where=where, required=collect_media)
    template = _hugging_face_form(part, name, where=where)
    kind = _MEDIA_TYPES[name]
    media = [
        MediaPart(kind=kind, form=form, source=template[form], where=where)
        for form in _source_keys(kind)
        if collect_media and _is_given(template.get(form))
    ]
    return _Part(template=template, media=media[0] if media else None)


def _check_sources(part: Mapping[str, Any], name: str, *, where: str, required: bool) -> None:
    """Check that a media part has exactly one source, under a key that its type knows."""
    known = _source_keys(name)
    given = [key for key in _SOURCE_KEYS if _is_given(part.get(key))]
    if (required and not given) or len(given) > 1 or not set(given) <= set(known):
        raise InputError(
            f"{where} is of type {name} with {' and '.join(given) or 'no source'}; give exactly one of: "
            f"{', '.join(known)}"
        )


def _source_keys(name: str) -> tuple[str, ...]:
    return (name, "url", "path", "base64") if name in ("image", "video", "audio") else (name,)


def _is_given(source: Any) -> bool:
    return source is not None and not (isinstance(source, str) and not source)


def _hugging_face_form(part: dict[str, Any], name: str, *, where: str) -> dict[str, Any]:
    """An OpenAI part as the reference rewrites `image_url`; a Hugging Face part as it is."""
    kind = _MEDIA_TYPES[name]
    value = part.get(name)
    if name == kind or not _is_given(value):
        return {**part, "type": kind}
    inner = "data" if name == "input_audio" else "url"
    source = value.get(inner) if isinstance(value, dict) else value
    if not isinstance(source, str) or not source or (name == "input_audio" and source is value):
        raise InputError(f"{where} is of type {name} without a string; give {{{name!r}: {{{inner!r}: …}}}}")
    is_base64 = name == "input_audio" and not source.startswith("data:")
    return {"type": kind, "base64" if is_base64 else "url": source}
