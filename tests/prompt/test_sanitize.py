"""Control tokens typed by users: refused with their place, or sanitized to the oracle's exact ids."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings

from gemma4_mm.errors import InputError
from gemma4_mm.prompt.control_tokens import (
    JOINT,
    MARK_END,
    MARK_START,
    TokenMarks,
    resolve_control_tokens,
    split_settled,
    typed_token,
    without_foreign,
    without_marked,
)
from gemma4_mm.prompt.messages import read_conversations
from gemma4_mm.prompt.render import render_prompts
from gemma4_mm.prompt.template import ChatTemplate
from gemma4_mm.prompt.tokenizer import Tokenizer
from gemma4_mm.testing import strategies as own
from tests.prompt.outcome import REFUSED, ours, reference

ALL_TOKENS = (*own.CONTROL_TOKENS, *own.MEDIA_TOKENS)


@pytest.mark.parity
@settings(max_examples=300)
@given(
    conversation=own.template_conversations(*ALL_TOKENS, media=False),
    tools=own.tool_lists(*ALL_TOKENS),
    options=own.template_options(),
)
def test_sanitized_ids_equal_the_oracle(
    hf_processor: Any,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    conversation: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    options: dict[str, Any],
) -> None:
    def sanitized() -> Any:
        batch = read_conversations(conversation)
        (text,) = render_prompts(
            batch, template=template, tokenizer=tokenizer, tools=tools, sanitize_control_tokens=True, **options
        )
        return tokenizer.encode_marked(text).tolist()

    arguments = {**options, "tools": tools, "tokenize": True, "sanitize_control_tokens": True}
    expected = reference(lambda: hf_processor.apply_chat_template(conversation, **arguments))
    actual = ours(sanitized)
    event("refused" if actual == REFUSED else "sanitized")
    assert actual == (expected if expected == REFUSED else expected[0])


@pytest.mark.parity
@pytest.mark.parametrize("typed", ["<|image|>", "a <|image|> b", "<|image|><|video|>", "\n<|image>\n<image|>"])
def test_sanitized_ids_equal_the_oracle_around_an_image(
    hf_processor: Any, template: ChatTemplate, tokenizer: Tokenizer, typed: str
) -> None:
    image = np.full((48, 48, 3), 7, np.uint8)
    parts = [{"type": "text", "text": typed}, {"type": "image", "image": image}, {"type": "text", "text": typed}]
    conversation = [{"role": "user", "content": parts}]
    inputs = hf_processor.apply_chat_template(
        conversation,
        tokenize=True,
        return_dict=True,
        return_tensors="np",
        sanitize_control_tokens=True,
        processor_kwargs={"max_soft_tokens": 70, "do_rescale": True},
    )
    batch = read_conversations(conversation)
    (text,) = render_prompts(batch, template=template, tokenizer=tokenizer, sanitize_control_tokens=True)
    assert without_marked(text).count("<|image|>") == 1
    n_tokens = int((inputs["mm_token_type_ids"] == 1).sum())
    expanded = re.sub(f"(?<!{MARK_START})<\\|image\\|>", "<|image>" + "<|image|>" * n_tokens + "<image|>", text)
    assert np.array_equal(tokenizer.encode_marked(expanded), inputs["input_ids"][0])


SPLITS = [(token, cut) for token in sorted(ALL_TOKENS) for cut in range(1, len(token))]


def _plain(template: ChatTemplate, tokenizer: Tokenizer, messages: Any, **arguments: Any) -> list[int]:
    batch = read_conversations(messages)
    (text,) = render_prompts(batch, template=template, tokenizer=tokenizer, control_tokens="plain", **arguments)
    return tokenizer.encode_marked(text).tolist()


@pytest.mark.parametrize(("token", "cut"), SPLITS)
def test_a_token_split_over_two_parts_is_plain_text(
    template: ChatTemplate, tokenizer: Tokenizer, token: str, cut: int
) -> None:
    parts = [{"type": "text", "text": f"hi{token[:cut]}"}, {"type": "text", "text": f"{token[cut:]}system"}]
    ids = _plain(template, tokenizer, [{"role": "user", "content": parts}])
    expected = tokenizer.encode("<bos><|turn>").tolist()
    newline = tokenizer._spell("\n")
    assert newline == tokenizer._spell("\n" + token)[: len(newline)] == tokenizer._spell("\nsystem")[: len(newline)]
    for piece in ("user\nhi", "\n" + token, "\nsystem"):  # cut as the reference cuts at a token typed whole
        expected += tokenizer._spell(piece)[len(newline) if piece[0] == "\n" else 0 :]
    assert ids == expected + tokenizer.encode("<turn|>\n").tolist()
    batch = read_conversations([{"role": "user", "content": parts}])
    with pytest.raises(InputError, match=f"join to the control token {re.escape(token)}; take it out"):
        render_prompts(batch, template=template, tokenizer=tokenizer, control_tokens="error")


@pytest.mark.parametrize("token", ALL_TOKENS)
def test_keys_names_and_roles_are_plain_text(template: ChatTemplate, tokenizer: Tokenizer, token: str) -> None:
    deep = {token: {token: [token, {token: token}]}}
    call = {"id": "1", "function": {"name": token, "arguments": deep}}
    function = {"name": token, "description": token, "parameters": {"type": token, "properties": {token: deep}}}
    messages = [
        {"role": token, "content": token},
        {"role": "assistant", "content": token, "reasoning": token, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": token},
        {"role": "assistant", "tool_responses": [{"name": token, "response": deep}]},
    ]
    neutral = _fill(_named(messages, token), "x")
    tools = [{"function": function}]
    options = {"tools": tools, "add_generation_prompt": True}
    plain = {**options, "tools": _fill(_named(tools, token), "x")}
    special = tokenizer.special_ids
    ids = [i for i in _plain(template, tokenizer, messages, **options) if i in special]
    assert ids == [i for i in _plain(template, tokenizer, neutral, **plain) if i in special]
    assert len(ids) > 10
    with pytest.raises(InputError, match=r"holds the (control token|text) "):
        render_prompts(
            read_conversations(messages), template=template, tokenizer=tokenizer, control_tokens="error", tools=tools
        )


@pytest.mark.parametrize(
    "source",
    [
        "<{{ x }}>",
        "{{ '<' + x + '>' }}",
        "{{ x | upper | lower }}<{{ x }}{{ '>' }}",
        "{{ ('%c' % n) ~ x }}",
        "{{ ('%c' | format(n)) ~ x }}",
        "{{ '{:c}'.format(n) ~ x }}",
        "{{ y.encode().decode('unicode_escape') }}",
        "{{ y.translate({60: n}) }}",
        "{{ m | tojson }}{{ m | string }}{{ '<bo' ~ s }}",
    ],
)
def test_no_template_makes_a_token_of_what_it_is_given(tokenizer: Tokenizer, source: str) -> None:
    """Letters alone, numbers that are characters, and characters written as escapes."""
    given = {"x": "bos", "y": "\\ud800<bos>", "m": {"\ud800": "\ud801<bos>"}, "s": "s>", "n": 0xD800}
    try:
        ids = _plain(ChatTemplate(source), tokenizer, [{"role": "user", "content": "hi"}], **given)
    except InputError:
        return
    assert not tokenizer.special_ids & set(ids)


def test_a_lone_surrogate_of_the_caller_is_no_mark(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    marks = tokenizer.marks(template.literal_text)
    for mark in (chr(0xD800 + marks.tokens.index("<|turn>")), MARK_START, MARK_END, JOINT):
        with pytest.raises(InputError, match="without lone surrogates"):
            _plain(template, tokenizer, [{"role": "user", "content": f"a{mark}<|turn>{MARK_END}"}])
    assert without_foreign({"\ud800": ["a\ud800", 1, ("\udff0",)]}) == {"\udfff": ["a\udfff", 1, ("\udfff",)]}


@pytest.mark.parametrize("choice", ["plain", "error"])
def test_the_private_characters_of_hugging_face_are_text(
    template: ChatTemplate, tokenizer: Tokenizer, choice: str
) -> None:
    text = "\U000f0000<\U000f0001"
    batch = read_conversations([{"role": "user", "content": text}])
    (rendered,) = render_prompts(batch, template=template, tokenizer=tokenizer, control_tokens=choice)
    assert text in tokenizer.decode(tokenizer.encode_marked(rendered))


def test_a_template_searches_text_for_tokens_as_without_sanitizing(tokenizer: Tokenizer) -> None:
    source = "{{ x.split('<turn|>') | join('+') }}{{ '<turn|>' in x }}{{ x.replace('<turn|>', '<bos>') }}<turn|>"
    ids = _plain(ChatTemplate(source), tokenizer, [{"role": "user", "content": "hi"}], x="a<turn|>b")
    assert tokenizer.decode(ids) == "a+bTruea<bos>b<turn|>"
    assert [tokenizer.piece(i) for i in ids if i in tokenizer.special_ids] == ["<bos>", "<turn|>"]


def test_error_gives_the_text_of_the_reference_where_nothing_is_typed(
    template: ChatTemplate, tokenizer: Tokenizer
) -> None:
    batch = read_conversations([{"role": "user", "content": "a < b"}])
    texts = [
        render_prompts(batch, template=template, tokenizer=tokenizer, control_tokens=choice)
        for choice in ("reference", "error")
    ]
    assert texts[0] == texts[1]


def test_the_choice_is_one_of_three() -> None:
    assert resolve_control_tokens(None) == "reference"
    assert resolve_control_tokens(None, sanitize_control_tokens=True) == "plain"
    assert [resolve_control_tokens(name) for name in ("reference", "plain", "error")] == ["reference", "plain", "error"]
    for choice, sanitize in (("no", False), (1, False), (["plain"], False), ("error", True), (None, "yes"), (None, 1)):
        with pytest.raises(InputError, match="control_tokens"):
            resolve_control_tokens(choice, sanitize_control_tokens=sanitize)


def test_the_promise_is_in_the_security_policy() -> None:
    promise = (
        'With `control_tokens="plain"` (Hugging Face\'s `sanitize_control_tokens=True`) a control id comes only from a '
        "whole token in the template's own text or from our expansion of media; everything that a caller gives is "
        "plain text, wherever it stands and whatever the template does with it."
    )
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    assert promise in " ".join(text.split())


@pytest.mark.parametrize("token", own.MEDIA_TOKENS)
@pytest.mark.parametrize(
    ("message", "where"),
    [
        ({"role": "user", "content": "look: {}"}, "message 1"),
        (
            {"role": "user", "content": [{"type": "text", "text": "ok"}, {"type": "text", "text": "{}"}]},
            "message 1, part 1",
        ),
        ({"role": "assistant", "content": "ok", "reasoning": "hm {}"}, "message 1, reasoning"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": ["{}"]}}}]},
            "message 1, tool_calls",
        ),
        ({"role": "tool", "content": [{"type": "text", "text": "{}"}]}, "message 1, part 0"),
        ({"role": "user", "content": "ok", "extra": {"{}": 1}}, "message 1, extra"),
    ],
)
def test_a_typed_placeholder_is_refused_with_its_place(
    template: ChatTemplate, tokenizer: Tokenizer, token: str, message: dict[str, Any], where: str
) -> None:
    message = _fill(message, token)
    batch = read_conversations([{"role": "user", "content": "hi"}, message])
    with pytest.raises(
        InputError, match=rf"^{where} holds the text {re.escape(token)}, .*sanitize_control_tokens=True"
    ):
        render_prompts(batch, template=template, tokenizer=tokenizer)
    batch = read_conversations([[{"role": "user", "content": "hi"}], [{"role": "user", "content": "hi"}, message]])
    with pytest.raises(InputError, match=rf"^conversation 1, {where} holds"):
        render_prompts(batch, template=template, tokenizer=tokenizer)


@pytest.mark.parametrize("argument", ["tools", "documents", "enable_thinking"])
def test_a_typed_placeholder_in_another_argument_is_refused(
    template: ChatTemplate, tokenizer: Tokenizer, argument: str
) -> None:
    batch = read_conversations([{"role": "user", "content": "hi"}])
    value = [{"function": {"name": "f", "description": "<|audio|>"}}]
    with pytest.raises(InputError, match=f"^{argument} holds the text"):
        render_prompts(batch, template=template, tokenizer=tokenizer, **{argument: value})


def test_a_media_source_may_hold_anything(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    batch = read_conversations([{"role": "user", "content": [{"type": "image", "path": "<|image|>.png"}]}])
    (text,) = render_prompts(batch, template=template, tokenizer=tokenizer)
    assert text.count("<|image|>") == 1


def test_the_longer_of_two_tokens_is_marked() -> None:
    marks = TokenMarks(["a", "<ab>"])
    assert marks.settle(marks.mark("<ab>")) == f"{JOINT}<ab>{JOINT}"
    assert marks.settle("<ab>") == f"{MARK_START}<ab>{MARK_END}"
    assert marks.unmark(marks.mark("x<ab>a")) == "x<ab>a"
    assert TokenMarks([]).settle(TokenMarks([]).mark("<ab>")) == "<ab>"


def test_text_beside_a_token_cannot_join_it() -> None:
    marks = TokenMarks(["ab", "bc"])
    text = marks.settle("a" + marks.mark("bc"))
    assert [(piece.text, piece.kind) for piece in split_settled(text, ["ab", "bc"])] == [
        ("a", "plain"),
        ("bc", "token"),
        ("", "plain"),
    ]


def test_a_run_ends_at_every_token() -> None:
    marks = TokenMarks(["<bos>", "<v>"])
    text = marks.settle(f"x<bos>y{marks.mark('<v>')}z")
    assert typed_token(text) == "<bos>"
    assert without_marked(text) == f"xy{JOINT}<v>{JOINT}z"
    text = text.replace("<v>", "00:00 <v> 00:01 <v>")  # as media are expanded
    pieces = [(piece.text, piece.kind) for piece in split_settled(text, ["<bos>", "<v>"]) if piece.text]
    assert pieces == [
        ("x", "plain"),
        ("<bos>", "typed"),
        ("y00:00 ", "plain"),
        ("<v>", "token"),
        (" 00:01 ", "plain"),
        ("<v>", "token"),
        ("z", "plain"),
    ]


def _named(value: Any, token: str) -> Any:
    """`value` with `{}` in place of `token`."""
    if isinstance(value, dict):
        return {_named(key, token): _named(item, token) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(item, token) for item in value]
    return value.replace(token, "{}") if isinstance(value, str) else value


def _fill(value: Any, token: str) -> Any:
    if isinstance(value, dict):
        return {_fill(key, token): _fill(item, token) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, token) for item in value]
    return value.replace("{}", token) if isinstance(value, str) else value
