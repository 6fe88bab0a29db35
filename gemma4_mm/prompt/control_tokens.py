"""Where a control token comes from: the template's own text may write one, what a caller gives is plain text.

Theory: before a template is compiled, each whole control token in its text becomes one private character, its mark.
Only the mark makes a control id, so it does not matter how the template joins, strips, quotes, sorts or slices what it
was given: without a mark `<|turn>` is seven characters. Marks are lone surrogates, which no valid text holds; a
caller's own lone surrogates become `FOREIGN`, which is no mark, and which no tokenizer takes. After rendering, `settle`
writes the marks as tokens again and fences the tokens that stand in plain text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from gemma4_mm.errors import InputError, shown

ControlTokens = Literal["reference", "plain", "error"]
"""What becomes of a control token that somebody typed: what HF makes of it, plain text, or an error."""

MARK_START: Final = "\udff0"  # before a control token in plain text
MARK_END: Final = "\udff1"  # after it
JOINT: Final = "\udff2"  # between a template's token and the text beside it, which cannot join to a token
FOREIGN: Final = "\udfff"
_FIRST_MARK: Final = 0xD800
_MAX_MARKS: Final = 0xDFF0 - _FIRST_MARK
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_FENCED: Final = re.compile(f"{MARK_START}.*?{MARK_END}", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of a settled text.

    Attributes:
        text: without marks.
        kind: `token` is one whole added token, to become its id; `typed` is one that stands in plain text, which stays
            text; `plain` is the text around them.
    """

    text: str
    kind: Literal["token", "typed", "plain"]


class TokenMarks:
    """Marks of control tokens, and the way there and back.

    Args:
        tokens: the control tokens; where one contains another, the longer counts.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = tuple(dict.fromkeys(tokens))
        if len(self.tokens) > _MAX_MARKS:
            raise InputError(f"the tokenizer has {len(self.tokens)} control tokens; at most {_MAX_MARKS} can be told")
        self._marks = {token: chr(_FIRST_MARK + index) for index, token in enumerate(self.tokens)}
        self._tokens = {mark: token for token, mark in self._marks.items()}
        self._any_mark = re.compile(f"([{''.join(self._tokens)}])" if self._tokens else "(?!)()")

    def mark(self, text: str) -> str:
        """`text` of the template, each whole control token as its mark."""
        return _any_of(self.tokens).sub(lambda match: self._marks[match[0]], text)

    def unmark(self, text: str) -> str:
        """The text that marks stand for; for messages to people."""
        return _SURROGATE.sub(lambda match: self._tokens.get(match[0], ""), text)

    def settle(self, text: str) -> str:
        """A rendered text with its marks written as tokens, and the control tokens of its plain text fenced.

        Between marks, plain text is looked at as a whole: a token that two strings of the caller join to is fenced.
        """
        pieces = self._any_mark.split(text)
        plain = [_any_of(self.tokens).sub(f"{MARK_START}\\g<0>{MARK_END}", piece) for piece in pieces[::2]]
        tokens = [f"{JOINT}{self._tokens[mark]}{JOINT}" for mark in pieces[1::2]] + [""]
        return "".join(part for pair in zip(plain, tokens, strict=True) for part in pair)


def without_foreign(value: Any) -> Any:
    """Copy messages, tools, or other JSON-like data with lone surrogates, at any depth and in keys, as `FOREIGN`."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub(FOREIGN, value)
    if isinstance(value, Mapping):
        return {without_foreign(key): without_foreign(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [without_foreign(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def split_settled(text: str, tokens: Iterable[str]) -> Iterator[Piece]:
    """Split a settled text, to which our own expansion may have been added, into tokens and runs of plain text.

    A run ends at every token, also at one that stands in plain text, where Hugging Face cuts too.

    Args:
        text: of `TokenMarks.settle`.
        tokens: every added token of the tokenizer.
    """
    either = _any_of(tuple(tokens)).pattern
    scan = re.compile(f"{MARK_START}(?P<plain>{either}){MARK_END}|(?P<token>{either})|[{MARK_START}{MARK_END}{JOINT}]")
    run: list[str] = []
    place = 0
    for match in scan.finditer(text):
        run.append(text[place : match.start()])
        place = match.end()
        if match["token"] is None and match["plain"] is None:
            continue
        yield Piece(text="".join(run), kind="plain")
        run = []
        if match["token"] is not None:
            yield Piece(text=match["token"], kind="token")
        else:
            yield Piece(text=match["plain"], kind="typed")
    yield Piece(text="".join([*run, text[place:]]), kind="plain")


def typed_token(text: str) -> str | None:
    """The first control token in the plain text of a settled text; None where there is none."""
    found = _FENCED.search(text)
    return None if found is None else found[0][1:-1]


def without_marked(text: str) -> str:
    """A settled text without the control tokens of its plain text: where placeholders count."""
    return _FENCED.sub("", text)


def without_joints(text: str) -> str:
    """A settled text that has no typed control token, as the reference renders it."""
    return text.replace(JOINT, "")


def resolve_control_tokens(control_tokens: Any, *, sanitize_control_tokens: Any = False) -> ControlTokens:
    """The one choice that the argument and Hugging Face's name for "plain" come to.

    Args:
        control_tokens: "reference", "plain" or "error"; None for the other argument's.
        sanitize_control_tokens: HF's argument: True is "plain".

    Raises:
        InputError: another value, or both arguments in disagreement.
    """
    if not isinstance(sanitize_control_tokens, bool):
        raise InputError(f"sanitize_control_tokens is {shown(sanitize_control_tokens)}; it must be True or False")
    if control_tokens is None:
        return "plain" if sanitize_control_tokens else "reference"
    if control_tokens == "reference":
        choice: ControlTokens = "reference"
    elif control_tokens == "plain":
        choice = "plain"
    elif control_tokens == "error":
        choice = "error"
    else:
        raise InputError(f"control_tokens is {shown(control_tokens)}; it must be 'reference', 'plain' or 'error'")
    if sanitize_control_tokens and choice != "plain":
        raise InputError(f"sanitize_control_tokens=True is control_tokens='plain', not {choice!r}; pass one of the two")
    return choice


@lru_cache(maxsize=16)
def _any_of(tokens: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")  # the latter matches nothing
