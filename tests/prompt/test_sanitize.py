"""Control tokens typed by users: refused with their place, or sanitized to the oracle's exact ids."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings

from gemma4_mm.errors import InputError
from gemma4_mm.prompt.control_tokens import MARK_END, MARK_START, mark_control_tokens, split_marked, without_marked
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
    conversation=own.template_conversations(*ALL_TOKENS, MARK_START, MARK_END, media=False),
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


def test_marks_cannot_be_forged() -> None:
    forged = f"{MARK_START}<bos>{MARK_END}{MARK_START}"
    assert mark_control_tokens({"a": [forged], "<bos>": 1, "b": ("<bos><bos>", 2.5, None)}, ["<bos>"]) == {
        "a": [f"{MARK_START}<bos>{MARK_END}"],
        "<bos>": 1,
        "b": [f"{MARK_START}<bos>{MARK_END}" * 2, 2.5, None],
    }


def test_the_longer_of_two_tokens_is_marked() -> None:
    assert mark_control_tokens("<ab>", ["a", "<ab>"]) == f"{MARK_START}<ab>{MARK_END}"
    assert mark_control_tokens("<ab>", []) == "<ab>"


def test_marked_text_is_split_at_every_mark() -> None:
    text = f"x{MARK_START}<bos>{MARK_END}{MARK_END}y{MARK_START}z"
    pieces = [(piece.text, piece.typed) for piece in split_marked(text, ["<bos>"])]
    assert pieces == [("x", False), ("<bos>", True), ("y", False), ("z", False)]
    assert [piece.text for piece in split_marked("", ["<bos>"])] == [""]


def _fill(value: Any, token: str) -> Any:
    if isinstance(value, dict):
        return {_fill(key, token): _fill(item, token) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, token) for item in value]
    return value.replace("{}", token) if isinstance(value, str) else value
