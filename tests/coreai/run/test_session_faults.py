"""What sessions refuse, what a failed, abandoned or cancelled reply leaves behind, and concurrency."""

import asyncio
import gc
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.run.host import AssetHost
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.coreai.run.session import Session
from gemma4_mm.errors import AssetError, ExecutionError, InputError, MediaError
from tests.coreai.conversations import picture, reply, user
from tests.coreai.sessions import ONE, SHORT, encode

# Faults


@pytest.mark.parametrize(
    ("messages", "template", "error", "message"),
    [
        ([{"role": "user", "content": [{"type": "image", "image": "nowhere.png"}]}], {}, MediaError, "nowhere.png"),
        ([{"role": "user", "content": [{"type": "hologram"}]}], {}, InputError, "hologram"),
        ([user("hello <|image|>")], {}, InputError, "image"),
        ([user("hello")], {"thinkin": True}, InputError, "unknown argument 'thinkin'"),
        ([user("hello")], {"tokenize": False}, InputError, "tokenize is set by the session; leave it out"),
        ([user("hello")], {"padding": "max_length", "max_length": 64}, InputError, "the prompt holds padding"),
        ([[user("hello")], [user("you")]], {}, InputError, r"input_ids are \[2, \d+\]; a session runs one prompt"),
        ([user(picture(0))], {"max_soft_tokens": 71}, InputError, "max_soft_tokens is 71"),
        ("hello", {}, InputError, "message"),
        (None, {}, InputError, "message"),
    ],
)
def test_a_fault_is_typed_and_leaves_the_session_usable(
    chat_runtime: Runtime, messages: Any, template: Any, error: type[Exception], message: str
) -> None:
    kept = Session(chat_runtime)
    before = kept.generate([user("hello")], SHORT)
    with pytest.raises(error, match=message):
        kept.generate(messages, SHORT, **template)
    after = kept.generate([user("hello")], SHORT)
    assert after.ids == before.ids
    assert after.statistics.reused_tokens == after.statistics.prompt_tokens - 1


def test_options_are_refused_before_the_prompt_costs_time(chat_runtime: Runtime, calls: list[tuple[str, int]]) -> None:
    with pytest.raises(InputError, match="suppressed ids go from 7 to 100000; ids run from 0 to"):
        Session(chat_runtime).generate([user(picture(0))], replace(SHORT, suppressed_ids=[7, 100_000]))
    assert calls == []


def test_arguments_of_the_template_are_refused_beside_an_encoded_prompt(chat_runtime: Runtime) -> None:
    inputs = encode(chat_runtime, [user("hello")])
    with pytest.raises(InputError, match="encoded already; enable_thinking cannot change it"):
        Session(chat_runtime).generate(inputs, SHORT, enable_thinking=True)


def test_a_budget_that_the_bundle_does_not_know_is_refused(chat_bundle: Bundle) -> None:
    constants = replace(chat_bundle.constants, soft_token_budgets=(70,)).to_json()
    narrow = replace(chat_bundle, metadata=dict(chat_bundle.metadata) | {"multimodal": constants})
    with Session.open(narrow) as opened:
        with pytest.raises(
            InputError, match="pixel_values was prepared for 140 soft tokens; the bundle knows 70; pass"
        ):
            opened.generate([user(picture(0))], ONE, max_soft_tokens=140)
        assert opened.generate([user(picture(0))], ONE).finish_reason


def test_a_bundle_without_multimodal_functions_answers_text(chat_bundle: Bundle) -> None:
    host = AssetHost()
    host.load(chat_bundle.asset_path, ("main",)).result()
    with Runtime(host, bundle=chat_bundle) as partial:
        kept = Session(partial)
        assert kept.generate([user("hello")], ONE).ids
        with pytest.raises(AssetError, match="embed_vision cannot be run: the asset has no function embed_vision"):
            kept.generate([user(picture(0))], ONE)
        assert kept.generate([user("hello")], ONE).ids


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_call_that_fails_midway_leaves_what_was_computed_and_no_more(
    chat_runtime: Runtime, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The runtime refuses one call of a prompt in chunks: what is there is reused, the rest computed."""
    messages = [user("hello", picture(9), "what is this?")]
    expected, expected_logits = reply(Session(chat_runtime), messages, max_tokens=4)
    kept = Session(chat_runtime, max_chunk=16)
    submit, count = chat_runtime.submit, 0

    def fail(function: str, inputs: Any, **options: Any) -> Future:
        nonlocal count
        count += not function.startswith("embed")
        if count == failing:
            raise ExecutionError("on purpose")
        return submit(function, inputs, **options)

    with monkeypatch.context() as patched:
        patched.setattr(chat_runtime, "submit", fail)
        with pytest.raises(ExecutionError, match="on purpose"):
            kept.generate(messages, SHORT)
    ids, logits = reply(kept, messages, max_tokens=4)
    assert ids == expected
    assert np.abs(logits - expected_logits).max() < 1e-3
    again = kept.generate(messages, ONE)
    assert again.statistics.reused_tokens > 0


# One reply at a time, abandoned replies, concurrency


def test_a_second_reply_waits_for_the_first_to_be_read_or_closed(chat_runtime: Runtime) -> None:
    kept = Session(chat_runtime)
    expected = kept.generate([user("hello")], SHORT).ids
    stream = kept.stream([user("hello")], replace(SHORT, max_tokens=50))
    next(stream)
    with pytest.raises(InputError, match="the session is writing another reply; read that to its end, close"):
        kept.generate([user("hello")], SHORT)
    with pytest.raises(InputError, match="the session is writing another reply"):
        kept.reset()
    stream.close()
    assert stream.reply.finish_reason is None
    assert kept.generate([user("hello")], SHORT).ids == expected
    for _ in kept.stream([user("hello")], replace(SHORT, max_tokens=50)):
        break
    gc.collect()
    assert kept.generate([user("hello")], SHORT).ids == expected
    with kept.stream([user("hello")], replace(SHORT, max_tokens=50)) as stream:
        next(stream)
    assert list(stream) == []
    assert kept.generate([user("hello")], SHORT).ids == expected


def test_async_streams_are_the_same_and_sessions_run_at_once(chat_runtime: Runtime) -> None:
    conversations = [[user(picture(20 + seed), "what is this?")] for seed in range(3)]
    expected = [Session(chat_runtime).generate(messages, SHORT) for messages in conversations]

    async def pieces(messages: Any) -> Any:
        stream = Session(chat_runtime).stream_async(messages, SHORT)
        assert [piece async for piece in stream] == stream.reply.pieces
        return stream.reply

    async def everything() -> Any:
        whole = Session(chat_runtime).generate_async(conversations[0], SHORT)
        return await asyncio.gather(*map(pieces, conversations), whole)

    *streamed, whole = asyncio.run(everything())
    for one, other in zip([*streamed, whole], [*expected, expected[0]], strict=True):
        assert one.ids == other.ids
        assert one.pieces == other.pieces
        assert one.finish_reason == other.finish_reason


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.06, 0.2])
def test_a_cancelled_reply_leaves_the_session_right(chat_runtime: Runtime, delay_s: float) -> None:
    """Cancelled while it encodes, prefills in padded chunks or decodes; the call that runs on is waited for."""
    messages = [user("what is this?", picture(24), "hello " * 40)]
    expected, expected_logits = reply(Session(chat_runtime), messages, max_tokens=4)
    kept = Session(chat_runtime, max_chunk=80, chunk_lengths=(16, 80))

    async def give_up() -> None:
        task = asyncio.create_task(kept.generate_async(messages, replace(SHORT, max_tokens=200)))
        await asyncio.sleep(delay_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    ids, logits = reply(kept, messages, max_tokens=4)
    assert ids == expected
    assert np.abs(logits - expected_logits).max() < 1e-3


def test_an_interrupted_wait_leaves_the_session_right(chat_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does: the waiter is gone, the call goes on."""
    kept = Session(chat_runtime)
    expected = Session(chat_runtime).generate([user("hello")], SHORT).ids
    submit, count = chat_runtime.submit, 0

    class Interrupted(Future):
        def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002
            raise KeyboardInterrupt

    def interrupt(function: str, inputs: Any, **options: Any) -> Future:
        nonlocal count
        count += 1
        future = submit(function, inputs, **options)
        if count != 3:
            return future
        broken = Interrupted()
        future.add_done_callback(lambda done: broken.set_result(done.result()))
        return broken

    with monkeypatch.context() as patched:
        patched.setattr(chat_runtime, "submit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            kept.generate([user("hello")], SHORT)
    assert kept.generate([user("hello")], SHORT).ids == expected


def test_a_session_that_opened_its_bundle_closes_it(chat_bundle: Bundle, chat_runtime: Runtime) -> None:
    with Session.open(chat_bundle.path) as opened:
        opened.generate([user("hello")], ONE)
    with pytest.raises(InputError, match="runtime is closed"):
        opened.generate([user("hello")], ONE)
    with Session(chat_runtime) as borrowed:
        pass
    assert borrowed.generate([user("hello")], ONE).ids
    with pytest.raises(InputError, match="max_chunk is 0"):
        Session.open(chat_bundle.path, max_chunk=0)
