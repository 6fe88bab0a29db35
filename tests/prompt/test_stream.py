"""Streamed text: pieces join to the decoded whole, and no piece holds half a character."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.coreai.convert.tiny_tokenizer import SPECIAL_TOKENS, vocabulary_size, write_tokenizer
from gemma4_mm.prompt.stream import TextStream
from gemma4_mm.prompt.tokenizer import Tokenizer

FIRST_BYTE = len(SPECIAL_TOKENS)
byte_ids = st.integers(FIRST_BYTE, FIRST_BYTE + 255)
any_ids = st.integers(0, vocabulary_size() + 3)  # the last of them are in no vocabulary
TEXTS = ("naïve 東京 🙂👩‍👩‍👧 نص", "plain words", "𓀀𓀁 x 𓀂", "", "a\nb  c", "é")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(directory, chat_template=None)
    return Tokenizer(directory / "tokenizer.json")


def stream(tokenizer, ids, **options):
    text = TextStream(tokenizer, **options)
    return [*(text.push(token_id) for token_id in ids), text.flush()]


@given(ids=st.lists(st.one_of(byte_ids, any_ids), max_size=40), skip=st.booleans())
@settings(max_examples=500)
def test_pieces_of_any_ids_join_to_the_decoded_whole(tiny, ids, skip):
    pieces = stream(tiny, ids, skip_special_tokens=skip)
    assert "".join(pieces) == tiny.decode(ids, skip_special_tokens=skip)


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁\ufffd"), max_size=30))
@settings(max_examples=200)
def test_no_piece_of_a_text_holds_half_a_character(tiny, text):
    pieces = stream(tiny, tiny.encode(text).tolist())
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_text_is_held_back_only_within_a_run_of_bytes(tiny):
    ids = tiny.encode("é the picture").tolist()
    assert stream(tiny, ids) == ["", "", "é the", " picture", ""]


def test_a_run_that_ends_the_reply_comes_with_the_flush(tiny):
    ids = tiny.encode("x🙂").tolist()
    assert stream(tiny, ids) == ["x", "", "", "", "", "🙂"]
    assert stream(tiny, ids[:-1])[-1] == "\ufffd\ufffd\ufffd"


def test_a_skipped_token_does_not_end_a_run(tiny):
    first, second = tiny.encode("é").tolist()
    turn_end = SPECIAL_TOKENS.index("<turn|>")
    assert "".join(stream(tiny, [first, turn_end, second], skip_special_tokens=True)) == "é"


@pytest.mark.parametrize("text", TEXTS)
def test_the_published_tokenizer_streams_alike(processor, text):
    tokenizer = processor.tokenizer
    ids = tokenizer.encode(f"<|turn>model\n{text}<turn|>").tolist()
    for skip in (True, False):
        pieces = stream(tokenizer, ids, skip_special_tokens=skip)
        assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=skip)
        assert not any("\ufffd" in piece for piece in pieces)
