"""Recorded texts and token ids of the oracle, for machines without it."""

import json
from pathlib import Path
from typing import Any

import pytest

from gemma4_mm.prompt.messages import read_conversations
from gemma4_mm.prompt.render import render_prompts
from gemma4_mm.prompt.template import ChatTemplate
from gemma4_mm.prompt.tokenizer import Tokenizer
from tests.goldens.record_prompt import CASES, DIRECTORY

RECORDS = sorted(DIRECTORY.glob("*.json"))


def test_every_case_is_recorded_as_it_stands() -> None:
    recorded: dict[str, Any] = {path.stem: json.loads(path.read_text())["arguments"] for path in RECORDS}
    assert recorded == CASES


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_golden_prompt_gives_the_recorded_text_and_ids(
    template: ChatTemplate, tokenizer: Tokenizer, path: Path
) -> None:
    record = json.loads(path.read_text())
    arguments = record["arguments"]
    sanitize = arguments.get("sanitize_control_tokens", False)
    batch = read_conversations(arguments.pop("conversation"), collect_media=sanitize)
    (text,) = render_prompts(batch, template=template, tokenizer=tokenizer, **arguments)
    assert record.get("text", text) == text
    if not sanitize:
        assert tokenizer.encode(text).tolist() == record["ids"]
        return
    # The reference cuts plain text at a typed token before it merges; here the whole run merges. Text and tokens agree
    ids, special = tokenizer.encode_marked(text).tolist(), tokenizer.special_ids
    assert tokenizer.decode(ids) == tokenizer.decode(record["ids"])
    assert [i for i in ids if i in special] == [i for i in record["ids"] if i in special]
