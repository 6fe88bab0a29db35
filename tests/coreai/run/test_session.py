"""The session on the live runtime: prefix reuse, endings, statistics."""

from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gemma4_mm.coreai.convert.tiny import CONTEXT_LENGTH
from gemma4_mm.coreai.convert.tiny_tokenizer import token_ids
from gemma4_mm.coreai.run import sequence, session
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.coreai.run.session import GenerationOptions, Session
from gemma4_mm.errors import InputError
from tests.coreai.conversations import assistant, clip, picture, sound, user
from tests.coreai.sessions import ONE, SHORT, encode

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
    from gemma4_mm.coreai.run.reply import Statistics

    assert Statistics().prefill_tokens_per_s == Statistics().decode_tokens_per_s == 0
