"""The tiny tokenizer is a real one: special tokens are single ids, text survives, the reference reads it alike."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gemma4_mm.coreai.convert import tiny_tokenizer
from gemma4_mm.coreai.convert.tiny_tokenizer import SPECIAL_TOKENS, write_tokenizer
from gemma4_mm.prompt import tokenizer as prompt
from gemma4_mm.spec import TokenIds


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(path, chat_template="{{ bos_token }}")
    return path


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def test_special_tokens_are_single_ids_and_all_but_the_first_are_remapped(tokenizer: Tokenizer) -> None:
    for index, text in enumerate(SPECIAL_TOKENS):
        assert tokenizer.encode(f"a{text}b").ids[1] == index
        assert tokenizer.token_to_id(text) == index
    ids, published = tiny_tokenizer.token_ids(), TokenIds()
    moved = [name for name in vars(ids) if getattr(ids, name) != getattr(published, name)]
    assert moved == ["boi", "boa", "image", "audio", "eoi", "eoa", "video"]
    assert [SPECIAL_TOKENS[stop] for stop in tiny_tokenizer.stop_ids()] == ["<eos>", "<turn|>", "<|tool_response>"]


def test_the_vocabulary_is_small_and_has_no_gap(tokenizer: Tokenizer) -> None:
    size = tiny_tokenizer.vocabulary_size()
    assert size <= 1024
    assert sorted(tokenizer.get_vocab().values()) == list(range(size))


@settings(max_examples=200)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=40))
def test_text_survives_through_byte_fallback(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_common_words_are_one_piece(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("user\nDescribe the picture").tokens[:2] == ["user", "\n"]
    assert tokenizer.encode("the picture").tokens == ["the", "▁picture"]


def test_a_rendered_chat_turn_becomes_ids(tokenizer: Tokenizer) -> None:
    text = "<bos><|turn>user\n<|image|>what is this<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
    specials = [token for token in tokenizer.encode(text).tokens if token in SPECIAL_TOKENS]
    assert specials == ["<bos>", "<|turn>", "<|image|>", "<turn|>", "<|turn>", "<|channel>", "<channel|>"]


def test_companions_say_where_things_are(directory: Path) -> None:
    generation = json.loads((directory / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [1, 16, 9]
    assert [SPECIAL_TOKENS[index] for index in generation["suppress_tokens"]] == ["<audio|>", "<image|>"]
    assert (directory / "chat_template.jinja").read_text() == "{{ bos_token }}"


def test_the_package_finds_the_special_tokens_by_their_content(directory: Path) -> None:
    config = json.loads((directory / "tokenizer_config.json").read_text())
    own = prompt.Tokenizer(directory / "tokenizer.json", config=config)
    assert own.token_ids == tiny_tokenizer.token_ids()
    assert own.decode(own.encode("<|turn>user\nnaïve 🙂<turn|>")) == "<|turn>user\nnaïve 🙂<turn|>"


@pytest.mark.parity
def test_the_reference_tokenizes_alike(directory: Path, tokenizer: Tokenizer) -> None:
    from transformers import AutoTokenizer

    oracle = AutoTokenizer.from_pretrained(directory)
    for text in ("<bos><|turn>user\nhello  world<turn|>\n", "naïve 東京 🙂 <|image|> x", "", " a  b\t\n"):
        assert oracle(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text).ids
    assert oracle.image_token_id == tiny_tokenizer.token_ids().image


@pytest.mark.parity
def test_the_references_processor_loads_the_directory(directory: Path) -> None:
    from transformers import AutoProcessor

    oracle = AutoProcessor.from_pretrained(directory)
    assert oracle.image_processor.max_soft_tokens == 70
    assert oracle.video_processor.num_frames == 3
