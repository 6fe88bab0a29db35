"""Messages with real media in, Hugging Face's greedy tokens out: the session against `generate` on the same weights.

Hugging Face's tensors are made by its own processor from the same messages and the bundle's tokenizer.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemma4_mm.core.prefill import chunks
from gemma4_mm.core.prefill.chunks import plan_chunks
from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.run import sequence
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.coreai.run.session import GenerationOptions, Session
from tests.coreai.conversations import (
    CONVERSATIONS,
    N_TOKENS,
    assistant,
    hf_processor,
    hf_reply,
    picture,
    reply,
    sound,
    user,
    with_files,
)

pytestmark = pytest.mark.parity
LOGIT_TOLERANCE = 1e-3  # the two add in different orders; a wrong mask moves logits by some tenths
# How the prompt goes in: at once, in chunks that vision blocks exceed, in few compiled lengths with padding.
WHOLE: dict[str, Any] = {"max_chunk": 1000}
CHUNKED: dict[str, Any] = {"max_chunk": 24}
PADDED: dict[str, Any] = {"max_chunk": 80, "chunk_lengths": (16, 80)}


@pytest.fixture(scope="module")
def oracle(chat_bundle: Bundle) -> Any:
    return hf_processor(chat_bundle)


@pytest.mark.parametrize("rule", ["forward", "static"])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_greedy_tokens_and_logits_are_those_of_generate(
    chat_runtime: Runtime, tiny_model: Any, oracle: Any, name: str, rule: Any
) -> None:
    messages = CONVERSATIONS[name]
    suppressed = chat_runtime.bundle.constants.suppressed_ids
    expected, expected_logits = hf_reply(tiny_model, oracle, messages, rule=rule, suppressed=suppressed)
    assert len(expected) == N_TOKENS
    for prefill in (WHOLE, CHUNKED):
        ids, logits = reply(Session(chat_runtime, mask_rule=rule, **prefill), messages)
        assert ids == expected, prefill
        assert np.abs(logits - expected_logits).max() < LOGIT_TOLERANCE, prefill


def test_there_are_prompts_enough() -> None:
    assert len(CONVERSATIONS) >= 12


@pytest.mark.parametrize("name", ["text over many windows", "two turns of all"])
def test_calls_padded_to_few_lengths_change_nothing(
    chat_runtime: Runtime, tiny_model: Any, oracle: Any, name: str
) -> None:
    suppressed = chat_runtime.bundle.constants.suppressed_ids
    expected, expected_logits = hf_reply(
        tiny_model, oracle, CONVERSATIONS[name], rule="forward", suppressed=suppressed, n_tokens=8
    )
    session = Session(chat_runtime, **PADDED)
    ids, logits = reply(session, CONVERSATIONS[name], max_tokens=8)
    assert ids == expected
    assert np.abs(logits - expected_logits).max() < LOGIT_TOLERANCE


def test_files_are_read_and_not_only_arrays(
    chat_runtime: Runtime, tiny_model: Any, oracle: Any, tmp_path: Path
) -> None:
    ours, theirs = with_files(tmp_path)
    suppressed = chat_runtime.bundle.constants.suppressed_ids
    expected, expected_logits = hf_reply(tiny_model, oracle, theirs, rule="forward", suppressed=suppressed)
    ids, logits = reply(Session(chat_runtime), ours)
    assert ids == expected
    assert np.abs(logits - expected_logits).max() < LOGIT_TOLERANCE


@pytest.mark.parametrize("rule", ["forward", "static"])
def test_a_second_turn_on_a_kept_prefix_is_generates_too(
    chat_runtime: Runtime, tiny_model: Any, oracle: Any, rule: Any
) -> None:
    session = Session(chat_runtime, mask_rule=rule)
    messages = [user(picture(30), "what is this?", sound(31))]
    first = session.generate(messages, GenerationOptions(max_tokens=6, stop_ids=()))
    messages += [assistant(first.text), user("and this?", picture(32))]
    suppressed = chat_runtime.bundle.constants.suppressed_ids
    expected, expected_logits = hf_reply(tiny_model, oracle, messages, rule=rule, suppressed=suppressed)
    ids, logits = reply(session, messages)
    assert ids == expected
    assert np.abs(logits - expected_logits).max() < LOGIT_TOLERANCE
    again = session.generate(messages, GenerationOptions(max_tokens=1))
    assert again.statistics.reused_tokens == again.statistics.prompt_tokens - 1


def test_int4_is_generate_with_the_dequantised_weights(
    int4_runtime: Runtime, dequantised_model: Any, tiny_model: Any, chat_bundle: Bundle, oracle: Any
) -> None:
    """Its context is 256 tokens and it has no chat template: another one is given."""
    template = (chat_bundle.tokenizer_path / "chat_template.jinja").read_text("utf-8")
    suppressed = int4_runtime.bundle.constants.suppressed_ids
    for name in ("text with a system turn", "one image", "two audios"):
        messages = CONVERSATIONS[name]
        expected, expected_logits = hf_reply(dequantised_model, oracle, messages, rule="forward", suppressed=suppressed)
        session = Session(int4_runtime)
        inputs = session.processor.apply_chat_template(
            messages,
            chat_template=template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            max_soft_tokens=70,
        )
        ids, logits = reply(session, inputs)
        assert ids == expected
        assert np.abs(logits - expected_logits).max() < LOGIT_TOLERANCE
        original = hf_reply(tiny_model, oracle, messages, rule="forward", suppressed=suppressed, n_tokens=1)[1]
        assert np.abs(original - logits[:1]).max() > 10 * LOGIT_TOLERANCE


@pytest.mark.parametrize("rule", ["forward", "static"])
def test_a_block_that_is_cut_gives_other_tokens(
    chat_runtime: Runtime, tiny_model: Any, oracle: Any, rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison can fail: the planner is made blind to blocks, and only then do the tokens differ."""
    messages = CONVERSATIONS["two images"]
    suppressed = chat_runtime.bundle.constants.suppressed_ids
    expected, _ = hf_reply(tiny_model, oracle, messages, rule=rule, suppressed=suppressed)
    monkeypatch.setattr(sequence, "plan_chunks", cutting_planner)
    ids, _ = reply(Session(chat_runtime, mask_rule=rule, max_chunk=24), messages)
    assert ids != expected


def cutting_planner(segments: Any, *, past_length: int = 0, **options: Any) -> Any:
    """Chunks of 24 tokens wherever they fall, each with the embeddings and masks that a chunk there has."""
    whole = plan_chunks(segments, past_length=past_length, **options | {"max_chunk": options["capacity"]})
    row = whole[0].row
    stop = whole[-1].tokens.stop
    own = [segment for segment in segments if segment.item is not None]
    return [
        chunks._make_chunk(
            chunks.Span(start, min(start + 24, stop)),
            lengths=(),
            capacity=options["capacity"],
            segments=own,
            row=row,
        )
        for start in range(past_length, stop, 24)
    ]
