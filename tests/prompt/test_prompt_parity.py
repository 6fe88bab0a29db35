"""Rendered text and token ids against the live oracle, over conversations of every shape."""

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings

from gemma4_mm.prompt.messages import read_conversations
from gemma4_mm.prompt.render import render_prompts
from gemma4_mm.prompt.template import ChatTemplate
from gemma4_mm.prompt.tokenizer import Tokenizer
from gemma4_mm.testing import strategies as own
from tests.prompt.outcome import REFUSED, ours, reference

pytestmark = pytest.mark.parity


def _rendered_for_processing(hf: Any, conversation: Any, tools: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The text and the media that the reference's `apply_chat_template(tokenize=True)` makes before it opens any."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rest = {
        key: value for key, value in options.items() if key not in ("add_generation_prompt", "continue_final_message")
    }
    if options.get("continue_final_message") and options.get("add_generation_prompt"):
        raise ValueError("what _prepare_processor_kwargs raises")
    chats, _ = hf._normalize_conversations(conversation)
    images, videos, audios, _ = hf._multimodal_inputs_from_conversations(chats, {"sampling_rate": 16_000})
    texts, _ = render_jinja_template(
        conversations=chats,
        tools=tools,
        chat_template=hf.chat_template,
        continue_final_message=options.get("continue_final_message", False),
        add_generation_prompt=options.get("add_generation_prompt", False),
        **{**hf.tokenizer.special_tokens_map, **rest},
    )
    return {"texts": tuple(texts), "image": images, "video": videos, "audio": audios}


def _same_objects(ours_: list[Any], theirs: list[Any]) -> bool:
    return len(ours_) == len(theirs) and all(
        a is b or (isinstance(a, str) and a == b) for a, b in zip(ours_, theirs, strict=True)
    )


@settings(max_examples=400)
@given(
    conversation=own.template_conversations(*own.CONTROL_TOKENS), tools=own.tool_lists(), options=own.template_options()
)
def test_text_and_ids_equal_the_oracle(
    hf_processor: Any,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    conversation: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    options: dict[str, Any],
) -> None:
    def render() -> str:
        batch = read_conversations(conversation, collect_media=False)
        (text,) = render_prompts(batch, template=template, tokenizer=tokenizer, tools=tools, **options)
        return text

    expected = reference(lambda: hf_processor.apply_chat_template(conversation, tools=tools, **options))
    text = ours(render)
    assert text == expected
    event("refused" if text == REFUSED else "rendered")
    if text != REFUSED:
        assert np.array_equal(tokenizer.encode(text), hf_processor.tokenizer(text, add_special_tokens=False).input_ids)


@settings(max_examples=150)
@given(
    conversation=own.template_conversations(*own.CONTROL_TOKENS), tools=own.tool_lists(), options=own.template_options()
)
def test_text_and_media_equal_the_oracle_when_media_are_collected(
    hf_processor: Any,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    conversation: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    options: dict[str, Any],
) -> None:
    batch = read_conversations([conversation, conversation[:1]])
    expected = reference(
        lambda: _rendered_for_processing(hf_processor, [conversation, conversation[:1]], tools, options)
    )
    texts = ours(lambda: render_prompts(batch, template=template, tokenizer=tokenizer, tools=tools, **options))
    if expected == REFUSED:
        assert texts == REFUSED
        return
    assert texts == expected["texts"]
    for kind in ("image", "video"):
        for conversation_, theirs in zip(batch.conversations, expected[kind], strict=True):
            assert _same_objects([part.source for part in conversation_.media if part.kind == kind], theirs)
    audios = [
        part.source for conversation_ in batch.conversations for part in conversation_.media if part.kind == "audio"
    ]
    assert _same_objects(audios, expected["audio"])


@settings(max_examples=50)
@given(conversation=own.template_conversations(), options=own.template_options())
def test_the_callers_messages_are_not_changed(
    template: ChatTemplate, tokenizer: Tokenizer, conversation: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    before = copy.deepcopy(conversation)
    batch = read_conversations(conversation)
    for sanitize in (False, True):
        ours(
            lambda sanitize=sanitize: render_prompts(
                batch, template=template, tokenizer=tokenizer, sanitize_control_tokens=sanitize, **options
            )
        )
    assert repr(conversation) == repr(before)


def test_template_variables_equal_the_oracle(hf_processor: Any, template: ChatTemplate) -> None:
    from transformers.utils.chat_template_utils import _get_template_literal_text, _get_template_variables

    assert template.variables == _get_template_variables(hf_processor.chat_template)
    assert set(template.literal_text.split("\0")) == set(
        _get_template_literal_text(hf_processor.chat_template).split("\0")
    )
