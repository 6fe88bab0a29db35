"""Control tokens that a user typed into text: the media placeholders, or all of them, refused with their place."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gemma4_mm.errors import InputError, plain_text
from gemma4_mm.prompt.messages import ConversationBatch
from gemma4_mm.spec import AUDIO_TOKEN, IMAGE_TOKEN, VIDEO_TOKEN

_PLACEHOLDERS: Final = (IMAGE_TOKEN, AUDIO_TOKEN, VIDEO_TOKEN)


def check_typed(value: Any, *, where: str, tokens: Sequence[str] | None = None) -> None:
    """Refuse `tokens`, or None for the media placeholders, in the strings of `value`, keys of dicts included.

    Raises:
        InputError: there is one; a placeholder would count as one of the prompt's own.
    """
    for text in _strings(value):
        refused = _PLACEHOLDERS if tokens is None else tokens
        typed = next((token for token in refused if token in text), None)
        if typed is not None and typed not in _PLACEHOLDERS:
            raise InputError(
                f"{where} holds the control token {typed}; take it out, or pass control_tokens='plain' to have it read "
                "as plain text"
            )
        if typed is not None:
            raise InputError(
                f"{where} holds the text {typed}, which stands for a media item; take it out and add a media part "
                "instead, or pass control_tokens='plain' (sanitize_control_tokens=True) to have it read as plain text"
            )


def check_typed_in_messages(batch: ConversationBatch, *, tokens: Sequence[str] | None = None) -> None:
    """`check_typed` of everything in the messages that a template may write; media sources are not.

    Raises:
        InputError: there is one; the message names message and part, or message and field.
    """
    for index, conversation in enumerate(batch.conversations):
        place = f"conversation {index}, " if batch.is_batched else ""
        for number, message in enumerate(conversation.messages):
            for key, value in message.items():
                where = f"{place}message {number}"
                if key != "content":
                    check_typed((key, value), where=f"{where}, {plain_text(key)}", tokens=tokens)
                elif isinstance(value, str):
                    check_typed(value, where=where, tokens=tokens)
                else:
                    for part_number, part in enumerate(value or ()):
                        if part["type"] == "text":
                            check_typed(part["text"], where=f"{where}, part {part_number}", tokens=tokens)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
