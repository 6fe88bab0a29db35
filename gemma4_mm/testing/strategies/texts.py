"""Texts: Unicode of every kind, pieces of control tokens, and JSON values as tools take and give them."""

from typing import Any, Final

from hypothesis import strategies as st

from gemma4_mm.spec import AUDIO_TOKEN, BOA_TOKEN, BOI_TOKEN, EOA_TOKEN, EOI_TOKEN, IMAGE_TOKEN, VIDEO_TOKEN

MEDIA_TOKENS: Final = (IMAGE_TOKEN, AUDIO_TOKEN, VIDEO_TOKEN)
CONTROL_TOKENS: Final = (
    *("<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>"),
    *("<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>'),
    *(BOI_TOKEN, EOI_TOKEN, BOA_TOKEN, EOA_TOKEN),
)
_WHITESPACE: Final = (
    *("\n", "\n\n", "\n\n\n", "\r\n", "\t", "\t\t", " ", "   ", "\u00a0", "\u2028", "▁", "▁▁", "\x00", "\ufeff"),
)
_WORDS: Final = (
    *(
        "Hello",
        " world",
        "I'm",
        "naïve",
        "e\u0301",
        "ﬁ",
        "Straße",
        "What is this?",
        "  padded  ",
        "línea\ndos",
        "a\t\tb",
    ),
    *("12345678901234567890", "3.14159", "0x1F", "1\u066c2", "数は 12 345 です"),
    *(
        "你好，世界",
        "こんにちは",
        "안녕",
        "العربية",
        "हिन्दी",
        "🙂",
        "👩‍👩‍👧",
        "🇩🇪",
        "👍🏽",
        "🙂🙃",
        "\U0010ffff",
        "\ue000",
    ),
)
_MARKUP: Final = (
    *("<0x41>", "<unused5>", "<h1>", "<|", "|>", "<|turn", "turn|>", "<", "{{ x }}", "{% if %}"),
    *("def f(x):\n    return", "model\n", "thought\n", "CONTINUE_FINAL_MESSAGE_TAG "),
)
_CHARACTERS: Final = st.characters(exclude_categories=["Cs"])


def texts(*extra: str, max_pieces: int = 6) -> st.SearchStrategy[str]:
    """Texts of a few pieces: Unicode of every kind, whitespace, long digit runs, parts of control tokens.

    Args:
        extra: further pieces, such as `*CONTROL_TOKENS`. Whole media tokens come from here only: typed in a message,
            the reference counts them as media.
        max_pieces: pieces of one text, which may be empty.
    """
    pieces = st.one_of(st.text(_CHARACTERS, max_size=10), st.sampled_from((*_WHITESPACE, *_WORDS, *_MARKUP, *extra)))
    joined = st.lists(pieces, max_size=max_pieces).map("".join)
    # Hypothesis also draws constants that it finds in the package's source
    unwanted = set(MEDIA_TOKENS) - set(extra)
    return joined.filter(lambda text: not any(token in text for token in unwanted))


def json_values(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """JSON values up to a few levels deep, NaN and infinities included; strings are drawn from `text`."""
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)
    keys = st.sampled_from(["b", "a", "city", "Größe", "_x"])
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
    )
