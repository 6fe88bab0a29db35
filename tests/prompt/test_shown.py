"""A stranger's text in an error: quoted, escaped and cut."""

import pytest

from gemma4_mm.errors import InputError, plain_text, shown
from gemma4_mm.prompt.messages import read_conversations


def test_what_is_shown_is_quoted_escaped_and_cut() -> None:
    assert shown("a\x1b[31m") == r"'a\x1b[31m'"
    assert shown("x" * 100, max_chars=3) == "'xxx'…"
    assert shown(10**5000) == "an integer…"
    assert plain_text("not\x1b[2Jfound\u202e") == r"not\x1b[2Jfound\u202e"
    assert len(plain_text("x" * 10**6)) < 400


def test_a_huge_type_makes_a_short_error() -> None:
    with pytest.raises(InputError) as caught:
        read_conversations([{"role": "user", "content": [{"type": "\x1b" + "x" * 10**6}]}])
    assert len(str(caught.value)) < 400
    assert "\x1b" not in str(caught.value)
