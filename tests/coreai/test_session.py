"""The session on the live runtime: prefix reuse, endings, faults, abandoned replies, concurrency, statistics."""

import asyncio
import gc
import json
import shutil
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gemma4_mm.coreai import sequence, session
from gemma4_mm.coreai.bundle import Bundle
from gemma4_mm.coreai.host import AssetHost
from gemma4_mm.coreai.runtime import Runtime
from gemma4_mm.coreai.session import GenerationOptions, Session
from gemma4_mm.coreai.tiny import CONTEXT_LENGTH
from gemma4_mm.coreai.tiny_tokenizer import token_ids
from gemma4_mm.errors import AssetError, ExecutionError, InputError, MediaError
from tests.coreai.conversations import assistant, clip, picture, reply, sound, user

SHORT = GenerationOptions(max_tokens=6, stop_ids=())
ONE = GenerationOptions(max_tokens=1)


def encode(runtime: Runtime, messages: Any) -> Any:
    return Session(runtime).processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True
    )


@pytest.fixture
def calls(chat_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Function and length of each call that reaches the runtime, which runs it."""
    seen: list[tuple[str, int]] = []
    submit = chat_runtime.submit

    def record(function: str, inputs: Any, **options: Any) -> Future:
        seen.append((function, np.shape(next(iter(inputs.values())))[-1]))
        return submit(function, inputs, **options)

    monkeypatch.setattr(chat_runtime, "submit", record)
    return seen


# Prefix reuse


def test_a_conversation_gives_the_tokens_of_fresh_sessions_and_says_what_it_reused(chat_runtime: Runtime) -> None:
    kept = Session(chat_runtime)
    messages = [user(picture(0), "what is this?")]
    reused = []
    for turn in ("and the colour?", "hello", None):
        fresh = Session(chat_runtime).generate(messages, SHORT)
        continued = kept.generate(messages, SHORT)
        assert continued.ids == fresh.ids
        assert continued.text == fresh.text
        assert fresh.statistics.reused_tokens == 0
        assert continued.statistics.prompt_tokens == fresh.statistics.prompt_tokens
        reused.append(continued.statistics.reused_tokens)
        if turn:
            messages = [*messages, assistant(continued.text), user(turn)]
    first_turn = len(encode(chat_runtime, messages[:1])["input_ids"][0])
    assert reused[0] == 0
    assert reused[1] > first_turn - 5  # all but the thinking channel, which the template closes in the newest turn only
    assert reused[2] > reused[1]


def test_a_changed_image_is_prefilled_from_its_first_token_on(chat_runtime: Runtime) -> None:
    first = [user(picture(1), "and", picture(2), "compare")]
    second = [user(picture(1), "and", picture(3), "compare")]
    inputs = encode(chat_runtime, second)
    assert np.array_equal(inputs["input_ids"], encode(chat_runtime, first)["input_ids"])
    place = [segment.start for segment in inputs.segments if segment.kind == "image"][1]
    kept = Session(chat_runtime)
    kept.generate(first, SHORT)
    changed = kept.generate(second, SHORT)
    assert changed.statistics.reused_tokens == place
    assert changed.ids == Session(chat_runtime).generate(second, SHORT).ids
    assert changed.ids != Session(chat_runtime).generate(first, SHORT).ids


@pytest.mark.parametrize(("kind", "medium"), [("audio", sound), ("video", clip)])
def test_changed_audio_and_video_too(chat_runtime: Runtime, kind: str, medium: Any) -> None:
    first, second = [user("this", medium(1), "?")], [user("this", medium(2), "?")]
    inputs = encode(chat_runtime, second)
    assert np.array_equal(inputs["input_ids"], encode(chat_runtime, first)["input_ids"])
    kept = Session(chat_runtime)
    kept.generate(first, SHORT)
    changed = kept.generate(second, SHORT)
    assert changed.statistics.reused_tokens == next(s.start for s in inputs.segments if s.kind == kind)
    assert changed.ids == Session(chat_runtime).generate(second, SHORT).ids


def test_embeddings_are_computed_once_for_each_medium(chat_runtime: Runtime, calls: list[tuple[str, int]]) -> None:
    kept = Session(chat_runtime)
    kept.generate([user(picture(4), "and", sound(5), clip(6), picture(4))], ONE)
    assert [name for name, _ in calls if name.startswith("embed")] == ["embed_vision", "embed_audio"] + [
        "embed_vision"
    ] * 3
    calls.clear()
    moved = kept.generate([user("now", clip(6), sound(5), picture(4), picture(7))], ONE)
    assert [name for name, _ in calls if name.startswith("embed")] == ["embed_vision"]
    assert (
        moved.ids == Session(chat_runtime).generate([user("now", clip(6), sound(5), picture(4), picture(7))], ONE).ids
    )


def test_text_goes_through_main_alone_and_so_does_text_after_a_kept_picture(
    chat_runtime: Runtime, calls: list[tuple[str, int]]
) -> None:
    kept = Session(chat_runtime)
    kept.generate([user("hello")], SHORT)
    assert {name for name, _ in calls} == {"main"}
    calls.clear()
    messages = [user(picture(8), "what is this?")]
    written = kept.generate(messages, ONE)
    assert [name for name, _ in calls] == ["embed_vision", "prefill_multimodal"]
    calls.clear()
    messages = [*messages, assistant(written.text), user("hello")]
    kept.generate(messages, ONE)
    assert [name for name, _ in calls] == ["main"]


def test_vision_is_embedded_at_one_shape_a_budget(chat_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = set()
    submit = chat_runtime.submit

    def record(function: str, inputs: Any, **options: Any) -> Future:
        shapes.add(np.shape(inputs.get("pixel_values")))
        return submit(function, inputs, **options)

    monkeypatch.setattr(chat_runtime, "submit", record)
    Session(chat_runtime).generate([user(picture(0, height=20, width=90), picture(1, height=77), clip(2))], ONE)
    assert shapes == {(70, 6912), ()}


def test_chunks_have_the_lengths_that_were_asked_for(chat_runtime: Runtime, calls: list[tuple[str, int]]) -> None:
    text = [user("hello what are you " * 20)]
    Session(chat_runtime, max_chunk=32).generate(text, ONE)
    assert {length for _, length in calls[:-1]} == {32}
    calls.clear()
    Session(chat_runtime, max_chunk=32, chunk_lengths=(8, 32)).generate([*text, assistant("a"), user("b")], ONE)
    assert {length for _, length in calls} <= {8, 32}
    with pytest.raises(InputError, match=r"allowed_lengths are \[8, 64\]; give at least one, each from 1 to max_chunk"):
        Session(chat_runtime, max_chunk=32, chunk_lengths=(8, 64))
    with pytest.raises(InputError, match="max_chunk is 0; it must be at least 1"):
        Session(chat_runtime, max_chunk=0)


def test_reset_forgets(chat_runtime: Runtime) -> None:
    kept = Session(chat_runtime)
    first = kept.generate([user("hello")], SHORT)
    kept.reset()
    again = kept.generate([user("hello")], SHORT)
    assert again.statistics.reused_tokens == 0
    assert again.ids == first.ids


# Endings


def test_a_stop_id_ends_the_reply_and_is_no_text(chat_runtime: Runtime) -> None:
    endless = Session(chat_runtime).generate([user("hello")], replace(SHORT, max_tokens=8))
    stop = endless.ids[4]
    stopped = Session(chat_runtime).generate([user("hello")], replace(SHORT, max_tokens=8, stop_ids=[stop]))
    assert stopped.finish_reason == "stop"
    assert stopped.ids == endless.ids[: endless.ids.index(stop) + 1]
    decode = Session(chat_runtime).processor.decode
    assert stopped.text == decode(stopped.ids[:-1], skip_special_tokens=True)
    assert endless.finish_reason == "length"
    assert stopped.statistics.generated_tokens == len(stopped.ids)


def test_the_bundles_stop_and_suppressed_ids_count_unless_others_are_given(chat_runtime: Runtime) -> None:
    constants = chat_runtime.bundle.constants

    def push(wanted: int) -> Any:
        def favour(_: Any, logits: np.ndarray) -> np.ndarray:
            logits = logits.copy()
            logits[wanted] = 1e6
            return logits

        return GenerationOptions(max_tokens=3, logits_processor=favour)

    for stop in constants.stop_ids:
        assert Session(chat_runtime).generate([user("hello")], push(stop)).ids == [stop]
    suppressed = constants.suppressed_ids[0]
    options = push(suppressed)
    assert suppressed not in Session(chat_runtime).generate([user("hello")], options).ids
    everything = Session(chat_runtime).generate([user("hello")], replace(options, suppressed_ids=[]))
    assert everything.ids == [suppressed] * 3


def test_a_full_context_ends_the_reply_and_a_longer_prompt_is_refused_in_words(chat_runtime: Runtime) -> None:
    room = 3
    capacity = CONTEXT_LENGTH - 1
    length = len(encode(chat_runtime, [user("")])["input_ids"][0])
    words = "hello" * (capacity - room - length)
    written = Session(chat_runtime).generate([user(words)], GenerationOptions(stop_ids=()))
    assert written.statistics.prompt_tokens == capacity - room
    assert written.finish_reason == "context"
    assert len(written.ids) == room + 1  # the last one needs no place
    with pytest.raises(InputError, match=f"has {capacity + 1} tokens; the context takes {capacity}; shorten it, lower"):
        Session(chat_runtime).generate([user(words + "hello" * (room + 1))])


def test_special_tokens_are_kept_on_request(chat_runtime: Runtime) -> None:
    special = token_ids().boa

    def favour(ids: Any, logits: np.ndarray) -> np.ndarray:
        logits = logits.copy()
        logits[special if len(ids) == 1 else 300] = 1e6
        return logits

    options = GenerationOptions(max_tokens=3, logits_processor=favour)
    decode = Session(chat_runtime).processor.decode
    for skip in (True, False):
        written = Session(chat_runtime).generate([user("hello")], replace(options, skip_special_tokens=skip))
        assert written.ids == [300, special, 300]
        assert written.text == decode(written.ids, skip_special_tokens=skip)
    assert "<|audio>" in written.text


def test_pieces_are_whole_characters_and_join_to_the_decoded_reply(chat_runtime: Runtime) -> None:
    tokenizer = Session(chat_runtime).processor.tokenizer
    wanted = "the naïve 東京 x 🙂"  # ends within a run of bytes
    script = tokenizer.encode(wanted).tolist()

    def recite(ids: Any, logits: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(logits)) == script[len(ids)], np.float32(1), np.float32(0))

    options = GenerationOptions(max_tokens=len(script), stop_ids=(), logits_processor=recite)
    stream = Session(chat_runtime).stream([user("hello")], options)
    pieces = list(stream)
    assert len(pieces) > 5
    assert all(piece and "\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) == stream.reply.text == wanted == tokenizer.decode(stream.reply.ids)


def test_draws_repeat_with_their_seed(chat_runtime: Runtime) -> None:
    drawn = GenerationOptions(max_tokens=8, stop_ids=(), temperature=1.5, top_k=50, top_p=0.95, seed=3)
    first = Session(chat_runtime).generate([user("hello")], drawn)
    assert Session(chat_runtime).generate([user("hello")], drawn).ids == first.ids
    assert Session(chat_runtime).generate([user("hello")], replace(drawn, seed=4)).ids != first.ids


def test_a_message_can_be_continued(chat_runtime: Runtime) -> None:
    messages = [user("hello"), assistant("the picture")]
    inputs = Session(chat_runtime).processor.apply_chat_template(
        messages, continue_final_message=True, tokenize=True, return_dict=True
    )
    continued = Session(chat_runtime).generate(messages, SHORT, continue_final_message=True)
    assert continued.statistics.prompt_tokens == inputs["input_ids"].shape[1]
    assert continued.ids == Session(chat_runtime).generate(inputs, SHORT).ids


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


# Statistics


def test_statistics_count_and_leave_out_the_callers_time(
    chat_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that advances by one at each look, and by a thousand while the caller has a piece."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += 1
        return now

    for module in (session, sequence):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=look))
    messages = [user(picture(0), "hello")]
    stream = Session(chat_runtime).stream(messages, replace(SHORT, max_tokens=5))
    for _ in stream:
        now += 1000
    statistics = stream.reply.statistics
    assert (
        statistics.prompt_tokens == statistics.prefilled_tokens == encode(chat_runtime, messages)["input_ids"].shape[1]
    )
    assert statistics.generated_tokens == 5
    assert statistics.encode_s == 1
    assert statistics.embed_s == 1
    assert statistics.prefill_s == 1
    assert statistics.time_to_first_token_s == 5
    assert statistics.decode_s < 20
    assert statistics.prefill_tokens_per_s == statistics.prompt_tokens
    assert statistics.decode_tokens_per_s == pytest.approx(4 / statistics.decode_s)


def test_rates_before_there_is_anything_to_rate_are_zero() -> None:
    from gemma4_mm.coreai.reply import Statistics

    assert Statistics().prefill_tokens_per_s == Statistics().decode_tokens_per_s == 0


# The bundle's own tokenizer and constants


def changed_bundle(bundle: Bundle, path: Path, **constants: Any) -> Bundle:
    """A copy whose `multimodal` block is changed; None removes a key."""
    shutil.copytree(bundle.path, path)
    metadata = json.loads((path / "metadata.json").read_text())
    block = metadata["multimodal"] | constants
    metadata["multimodal"] = {name: value for name, value in block.items() if value is not None}
    (path / "metadata.json").write_text(json.dumps(metadata))
    return Bundle.read(path)


def test_stated_budgets_and_frames_win_over_the_processors_and_missing_ones_do_not(
    chat_bundle: Bundle, tmp_path: Path
) -> None:
    from gemma4_mm.coreai.bundle_processor import bundle_processor

    stated = changed_bundle(chat_bundle, tmp_path / "a", image_soft_tokens=140, video_frames=2)
    config = bundle_processor(stated).config
    assert (config.image_soft_tokens, config.video_soft_tokens, config.video_frames) == (140, 70, 2)
    silent = changed_bundle(chat_bundle, tmp_path / "b", image_soft_tokens=None, video_frames=None)
    config = bundle_processor(silent).config
    assert (config.image_soft_tokens, config.video_frames) == (70, 3)  # processor_config.json's
    (silent.tokenizer_path / "processor_config.json").unlink()
    assert bundle_processor(silent).config.image_soft_tokens == 280  # the published


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        (
            {"image_token_id": 300},
            r"image is 300 in multimodal.image_token_id, 19 in tokenizer.json; restore the token",
        ),
        ({"image_soft_tokens": 100}, "asks for what this package cannot prepare: max_soft_tokens is 100"),
        ({"sample_rate_hz": 8000}, "cannot prepare: sample_rate_hz is 8000; it must be 16000"),
        ({"samples_per_token": 320}, "cannot prepare: samples_per_token is 320; it must be 640"),
    ],
)
def test_metadata_that_contradicts_the_tokenizer_or_the_model_is_refused(
    chat_bundle: Bundle, tmp_path: Path, constants: dict[str, Any], message: str
) -> None:
    with pytest.raises(AssetError, match=message):
        Session.open(changed_bundle(chat_bundle, tmp_path / "b", **constants))


def test_the_bundles_mask_rule_counts_unless_another_is_given(chat_bundle: Bundle, tmp_path: Path) -> None:
    messages = [user(picture(0), picture(1), "compare")]
    with Session.open(changed_bundle(chat_bundle, tmp_path / "b", mask_rule="static")) as opened:
        assert opened.mask_rule == "static"
        ids, logits = reply(opened, messages, max_tokens=2)
        for rule in ("static", "forward"):
            _, other = reply(Session(opened.runtime, mask_rule=rule), messages, max_tokens=2)
            assert (np.abs(other[0] - logits[0]).max() < 1e-5) == (rule == "static")
        assert ids


def test_a_bundle_without_a_template_says_which_file_is_missing(runtime: Runtime) -> None:
    kept = Session(runtime)
    with pytest.raises(AssetError, match=r"chat_template\.jinja is missing"):
        kept.generate([user("hello")], ONE)
    assert kept.generate([user("hello")], ONE, chat_template="{{ bos_token }}{{ messages[0]['role'] }}").ids
