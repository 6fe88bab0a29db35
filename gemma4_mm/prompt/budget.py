"""What one rendering may cost: steps counted while the template runs, and sizes checked before they are made.

A step is a loop round, or 64 characters or 8 items made; a call takes eight. Steps of one rendering are counted per
thread. An ordinary prompt takes a few hundred; `MAX_STEPS` are a few seconds at most.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from gemma4_mm.errors import LimitError

MAX_STEPS: Final = 1_000_000
MAX_CHARS: Final = 64 << 20  # of one text; far over what a context of 256 k tokens holds
MAX_BITS: Final = 4096  # of one whole number
_CHARS_PER_STEP: Final = 64
ITEMS_PER_STEP: Final = 8


class _State(threading.local):
    left = MAX_STEPS
    is_counted = False


_STATE: Final = _State()


@contextmanager
def counted() -> Iterator[None]:
    """Give what is compiled or rendered inside `MAX_STEPS`."""
    before = (_STATE.left, _STATE.is_counted)
    _STATE.left, _STATE.is_counted = MAX_STEPS, True
    try:
        yield
    finally:
        _STATE.left, _STATE.is_counted = before


def step(number: int = 1) -> None:
    """Take steps of the budget.

    Raises:
        LimitError: they are used up.
    """
    _STATE.left -= number
    if _STATE.left < 0 and _STATE.is_counted:
        raise LimitError(f"the template takes more than {MAX_STEPS} steps; shorten the messages or mend its loops")


def made(value: Any) -> Any:
    """Charge what was made by its length; returns it."""
    if isinstance(value, str):
        check_chars(len(value))
        step(1 + len(value) // _CHARS_PER_STEP)
    elif isinstance(value, list | tuple | dict):
        step(1 + len(value) // ITEMS_PER_STEP)
    return value


def check_chars(number: int) -> None:
    """Check the length of a text before it is made.

    Raises:
        LimitError: over `MAX_CHARS`.
    """
    if number > MAX_CHARS:
        raise LimitError(f"the template makes a text of {number:.3g} characters; the limit is {MAX_CHARS}")


def check_size(*values: Any) -> int:
    """Characters that the values take as text, at most; what is inside them several times counts as often.

    Raises:
        LimitError: over `MAX_CHARS`.
    """
    left, size, seen = list(values), 0, 0
    while left:
        value = left.pop()
        if isinstance(value, str):
            size += len(value) + 2
        else:
            size += 24
            inner = vars(value).get("_Namespace__attrs", value) if hasattr(value, "__dict__") else value
            if isinstance(inner, Mapping):
                left.extend(inner.keys())
                left.extend(inner.values())
            elif isinstance(inner, list | tuple | set | frozenset):
                left.extend(inner)
        seen += 1
        if seen % 1024 == 0:
            step(1024 // ITEMS_PER_STEP)
        check_chars(size + len(left))
    return size


def each(items: Iterable[Any]) -> Iterator[Any]:
    """The items, a step each: for what is made while it is read."""
    for item in items:
        step()
        yield item
