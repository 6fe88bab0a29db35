"""The tokenizer against the live oracle, its special tokens, and its errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.assets.find import Assets
from gemma4_mm.errors import AssetError, InputError
from gemma4_mm.prompt.control_tokens import JOINT, MARK_END, MARK_START, TokenMarks
from gemma4_mm.prompt.template import ChatTemplate
from gemma4_mm.prompt.tokenizer import Tokenizer
from gemma4_mm.spec import VOCAB_SIZE, TokenIds
from gemma4_mm.testing import strategies as own

ALL_TOKENS = (*own.CONTROL_TOKENS, *own.MEDIA_TOKENS)
_IDS = st.lists(st.integers(0, VOCAB_SIZE - 1) | st.integers(0, 400) | st.sampled_from([255_999, 258_880, 258_884]))


@pytest.mark.parity
@settings(max_examples=1200)
@given(text=own.texts(*ALL_TOKENS, max_pieces=12))
def test_encode_equals_the_oracle(hf_processor: Any, tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert np.array_equal(ids, hf_processor.tokenizer(text).input_ids)


@pytest.mark.parity
@settings(max_examples=600)
@given(ids=_IDS, skip=st.booleans())
def test_decode_equals_the_oracle(hf_processor: Any, tokenizer: Tokenizer, ids: list[int], skip: bool) -> None:
    expected = hf_processor.decode(ids, skip_special_tokens=skip)
    assert tokenizer.decode(ids, skip_special_tokens=skip) == expected
    rows = np.array([ids, ids], np.int64).reshape(2, len(ids))
    assert tokenizer.batch_decode(rows, skip_special_tokens=skip) == [expected, expected]


@settings(max_examples=100)
@given(text=own.texts())
def test_decode_undoes_encode(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("▁", " ")  # the one character that stands for space


@pytest.mark.parity
def test_special_tokens_equal_the_oracle(hf_processor: Any, tokenizer: Tokenizer, template: ChatTemplate) -> None:
    assert tokenizer.special_tokens_map == hf_processor.tokenizer.special_tokens_map
    expected = hf_processor.tokenizer._get_control_tokens(hf_processor.chat_template)
    assert set(tokenizer.control_tokens(template.literal_text)) == set(expected)


@pytest.mark.parity
@settings(max_examples=200)
@given(pieces=st.lists(own.texts(*own.CONTROL_TOKENS, max_pieces=3), max_size=5), data=st.data())
def test_settled_text_equals_the_oracle(
    hf_processor: Any, tokenizer: Tokenizer, pieces: list[str], data: st.DataObject
) -> None:
    """Tokens of the template between plain texts that hold others, which the reference fences by marks of its own."""
    from transformers.utils.chat_template_utils import encode_marked_chat

    marks = tokenizer.marks("")
    tokens = data.draw(st.lists(st.sampled_from(ALL_TOKENS), min_size=len(pieces), max_size=len(pieces)))
    text = marks.settle("".join(piece + marks.mark(token) for piece, token in zip(pieces, tokens, strict=True)))
    theirs = text.translate({ord(MARK_START): "\U000f0000", ord(MARK_END): "\U000f0001", ord(JOINT): None})
    assert np.array_equal(tokenizer.encode_marked(text), encode_marked_chat(hf_processor.tokenizer, theirs))


def test_every_control_token_can_be_written_as_text(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    tokens = tokenizer.control_tokens(template.literal_text)
    assert set(ALL_TOKENS) <= set(tokens)
    for token in tokens:
        ids = tokenizer.encode_marked(TokenMarks(tokens).settle(f"a{token}b"))
        assert len(ids) > 3
        assert tokenizer.decode(ids) == f"a{token}b"


def test_token_ids_are_the_published_ones(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_ids == TokenIds()


def _tiny(tmp_path: Path, *tokens: str, **changes: Any) -> Path:
    vocabulary = {token: index for index, token in enumerate(["<unk>", "▁", "a", "b", *tokens])}
    added = [
        {"id": vocabulary[token], "content": token, "special": token != "<plain>"}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for token in ("<unk>", *tokens)
    ]
    data = {
        "version": "1.0",
        "added_tokens": added,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": "<unk>"},
        **changes,
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


_NAMED = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<|image>",
    "<|audio>",
    "<|image|>",
    "<|audio|>",
    "<image|>",
    "<audio|>",
    "<|video|>",
)


def test_another_tokenizers_ids_are_looked_up_by_text(tmp_path: Path) -> None:
    ids = Tokenizer(_tiny(tmp_path, *_NAMED)).token_ids
    assert (ids.pad, ids.eos, ids.bos, ids.boi, ids.video) == (4, 5, 6, 7, 13)


def test_a_token_that_the_configuration_renames_is_looked_up_by_its_new_name(tmp_path: Path) -> None:
    renamed = ("<nothing>", *_NAMED[1:])
    tokenizer = Tokenizer(
        _tiny(tmp_path, *renamed), config={"pad_token": {"content": "<nothing>"}, "other_token": None}
    )
    assert tokenizer.token_ids.pad == 4
    assert tokenizer.special_tokens_map["pad_token"] == "<nothing>"
    assert "other_token" not in tokenizer.special_tokens_map


def test_a_missing_token_is_named(tmp_path: Path) -> None:
    tokenizer = Tokenizer(_tiny(tmp_path, *_NAMED[:-1]))
    with pytest.raises(AssetError, match="no token for video"):
        tokenizer.token_ids  # noqa: B018


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path: Path) -> None:
    cut = {"truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}}
    assert len(Tokenizer(_tiny(tmp_path, **cut)).encode("abab")) == 4


def test_control_tokens_are_special_or_listed_or_in_the_template(tmp_path: Path) -> None:
    path = _tiny(tmp_path, "<bos>", "<plain>")
    assert Tokenizer(path).control_tokens("no such text") == ("<unk>", "<bos>")
    assert Tokenizer(path).control_tokens("… <plain> …") == ("<unk>", "<bos>", "<plain>")
    listed = Tokenizer(path, config={"chat_control_tokens": ["<plain>"]})
    assert listed.control_tokens("no such text") == ("<unk>", "<bos>", "<plain>")


def test_a_control_token_that_text_alone_spells_is_an_error(tmp_path: Path) -> None:
    tokenizer = Tokenizer(_tiny(tmp_path, "c"))  # an added token of one character: its spelling is itself
    with pytest.raises(InputError, match="'c' cannot be written as plain text"):
        tokenizer.encode_marked(TokenMarks(["c"]).settle("abc"))


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff\xfe"])
def test_a_damaged_file_is_an_asset_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(AssetError, match=r"tokenizer\.json as a tokenizer: .*; restore the file"):
        Tokenizer(path)
    with pytest.raises(AssetError, match="No such file"):
        Tokenizer(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["a\ud83d", None, 5, b"bytes", ["a"]])
def test_text_that_is_not_text_is_refused(tokenizer: Tokenizer, text: Any) -> None:
    with pytest.raises(InputError, match="pass a str without lone surrogates"):
        tokenizer.encode(text)


@pytest.mark.parametrize("ids", [[-1], [1.5], ["a"], [[1, 2]], [[1], [2, 3]], [True], [None], [2**32], [2**70]])
def test_ids_that_are_not_ids_are_refused(tokenizer: Tokenizer, ids: Any) -> None:
    with pytest.raises(InputError, match="whole numbers"):
        tokenizer.decode(ids)


def test_ids_outside_the_vocabulary_are_left_out_as_the_oracle_leaves_them_out(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([10979, VOCAB_SIZE, 10979]) == tokenizer.decode([10979, 10979])


def test_the_published_files_load_from_their_record(assets: Assets) -> None:
    assert assets.read_tokenizer_config()["tokenizer_class"] == "GemmaTokenizer"
    assert assets.read_processor_config()["processor_class"] == "Gemma4UnifiedProcessor"
