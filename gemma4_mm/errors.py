"""The error tree: catch `Gemma4MMError` and nothing of ours escapes.

Every message says what was wrong, the limit, and the next step.
"""

import reprlib


class Gemma4MMError(Exception):
    """Base class of every error that this package raises on purpose."""


class InputError(Gemma4MMError, ValueError):
    """An argument, message, shape or dtype that the reference would refuse or misread."""


class MediaError(Gemma4MMError, ValueError):
    """A file or buffer that cannot be read as the image, audio or video that it claims to be."""


class LimitError(Gemma4MMError, ValueError):
    """An input beyond a bound of `Limits`, found before it was decoded."""


class AssetError(Gemma4MMError):
    """The tokenizer, chat template or configuration is missing, unreadable or not the published file."""


class MissingDependencyError(Gemma4MMError, ImportError):
    """An optional library is not installed; the message holds the exact install command."""


class ExecutionError(Gemma4MMError, RuntimeError):
    """The Core AI runtime refused or failed a call whose inputs had passed every check."""


class InvariantError(Gemma4MMError):
    """Two results that must agree do not: a bug of this package, described in words."""


_SHOWN_CHARS = 80


def shown(value: object, *, max_chars: int = _SHOWN_CHARS) -> str:
    """A value of a stranger for an error or a log line: quoted, escaped (no control character is left) and cut.

    Args:
        value: a string, or anything else, of which its `repr` is shown. Long strings are cut before they are quoted.
        max_chars: characters shown of it.
    """
    if isinstance(value, str):
        text, is_cut = escaped(repr(value[:max_chars])), len(value) > max_chars
    elif isinstance(value, bytes | bytearray):
        text, is_cut = repr(bytes(value[:max_chars])), len(value) > max_chars
    elif value is None or isinstance(value, bool | float):
        text, is_cut = repr(value), False
    elif isinstance(value, int):
        # Digits of a huge number are slow to write, and Python refuses more than 4300 of them
        text, is_cut = (repr(value), False) if value.bit_length() < 4 * max_chars else ("an integer", True)
    else:
        text, is_cut = escaped(reprlib.repr(value)), False  # bounded in depth, items and characters
    return f"{text}…" if is_cut else text


def plain_text(value: object, *, max_chars: int = 4 * _SHOWN_CHARS) -> str:
    """The text of another library's error, or a name, for a line of ours: escaped and cut like `shown`, not quoted."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 (a stranger's own __str__; there is nothing to show then)
        text = type(value).__name__
    cut = text[:max_chars]
    return escaped(cut) + ("…" if len(text) > max_chars else "")


def escaped(text: str) -> str:
    """`text` with every character that a terminal may act upon, or that cannot be printed, as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
