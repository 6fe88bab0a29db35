"""Bundles on disk: the documented one, broken ones, and what we write."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemma4_mm.coreai.bundle.asset import verify_asset
from gemma4_mm.coreai.bundle.bundle import Bundle, build_metadata, write_metadata
from gemma4_mm.coreai.bundle.constants import MultimodalConstants
from gemma4_mm.coreai.bundle.schema import check_bundle, find_problems
from gemma4_mm.coreai.bundle.specs import function_table
from gemma4_mm.coreai.convert.tiny_tokenizer import token_ids
from gemma4_mm.errors import AssetError
from gemma4_mm.spec import TokenIds

# As the card of the 12B bundle describes it: schema 0.2 and "multimodal constants", whose place is not documented.
DOCUMENTED: dict[str, Any] = {
    "metadata_version": "0.2",
    "kind": "llm",
    "name": "gemma_4_12b_it_mm_4bit",
    "assets": {"main": "gemma_4_12b_it_mm_4bit.aimodel"},
    "language": {
        "tokenizer": "google/gemma-4-12B-it",
        "vocab_size": 262144,
        "max_context_length": 8192,
        "embedded_tokenizer": True,
        "function_map": {"main": ["main"]},
    },
    "source": {"model_definition": "torch", "hf_model_id": "google/gemma-4-12B-it"},
    "compression": "4bit",
    "compilation": {"date": "2026-06-20T10:00:00+00:00", "targets": []},
    "multimodal_constants": {
        "image_token_id": 258880,
        "audio_token_id": 258881,
        "video_token_id": 258884,
        "boi_token_id": 255999,
        "eoi_token_id": 258882,
        "stop_tokens": [1, 106],
    },
}


def make(path: Path, metadata: Any, *, files: bool = True) -> Path:
    """A bundle directory with fake weights."""
    path.mkdir(exist_ok=True)
    (path / "metadata.json").write_text(json.dumps(metadata), "utf-8")
    if files:
        asset = path / "gemma_4_12b_it_mm_4bit.aimodel"
        asset.mkdir()
        (asset / "main.mlirb").write_bytes(b"fake weights")
        (path / "tokenizer").mkdir()
        (path / "tokenizer" / "tokenizer.json").write_text("{}")
        (path / "tokenizer" / "chat_template.jinja").write_text("{{ messages }}")
        (path / "pad_embedding.bin").write_bytes(b"\0\0")
    return path


def changed(*path: str, to: Any) -> dict[str, Any]:
    """A copy of the documented metadata with one value replaced, or removed where `to` is ...."""
    metadata: dict[str, Any] = json.loads(json.dumps(DOCUMENTED))
    *parents, key = path
    block = metadata
    for parent in parents:
        block = block[parent]
    if to is ...:
        del block[key]
    else:
        block[key] = to
    return metadata


def errors(bundle: Bundle) -> list[str]:
    return [problem.message for problem in find_problems(bundle) if problem.level == "error"]


def test_the_documented_bundle_is_read_and_only_what_it_does_not_say_is_noted(tmp_path: Path) -> None:
    bundle = Bundle.read(make(tmp_path / "gemma", DOCUMENTED))
    check_bundle(bundle)
    assert bundle.name == "gemma_4_12b_it_mm_4bit"
    assert bundle.asset_path.name == "gemma_4_12b_it_mm_4bit.aimodel"
    assert (bundle.vocabulary, bundle.max_context) == (262144, 8192)
    assert bundle.constants.tokens == TokenIds()
    assert bundle.constants.stop_ids == (1, 106)  # what the bundle says, not the default
    assert bundle.found_constants.places["stop_token_ids"] == "multimodal_constants.stop_tokens"
    notes = [problem.message for problem in find_problems(bundle)]
    assert len(notes) == 2
    assert notes[0].startswith("multimodal_constants is not a key of schema 0.2")
    assert "so google/gemma-4-12B-it's are used: pad_token_id, eos_token_id, bos_token_id, boa_token_id," in notes[1]
    assert [row[0] for row in function_table()] == ["main", "prefill_multimodal", "embed_vision", "embed_audio"]


@pytest.mark.parametrize("place", ["multimodal", "vision", "top"])
def test_constants_are_found_wherever_they_lie(tmp_path: Path, place: str) -> None:
    constants = DOCUMENTED["multimodal_constants"] | {"image_token_id": 777}
    metadata = changed("multimodal_constants", to=...)
    metadata |= constants if place == "top" else {place: constants}
    assert Bundle.read(make(tmp_path / "b", metadata)).constants.tokens.image == 777


def test_our_own_block_wins_over_others(tmp_path: Path) -> None:
    metadata = DOCUMENTED | {"multimodal": {"image_token_id": 5}}
    assert Bundle.read(make(tmp_path / "b", metadata)).constants.tokens.image == 5


def test_what_we_write_has_the_required_keys_and_reads_back_without_problems(tmp_path: Path) -> None:
    constants = replace(MultimodalConstants(), tokens=token_ids(), stop_ids=(1, 16, 9), mask_rule="static")
    metadata = build_metadata(
        name="tiny",
        asset_name="gemma_4_12b_it_mm_4bit.aimodel",
        vocabulary=500,
        max_context=64,
        constants=constants,
        hf_model_id="google/gemma-4-12B-it",
        compression="int4-block32",
        date="2026-06-20T10:00:00+00:00",
    )
    path = make(tmp_path / "b", {})
    write_metadata(path, metadata)
    bundle = Bundle.read(path)
    assert find_problems(bundle) == ()
    assert bundle.constants == constants
    assert bundle.metadata.keys() - {"multimodal"} == DOCUMENTED.keys() - {"multimodal_constants"}
    assert bundle.metadata["language"].keys() == DOCUMENTED["language"].keys() | {"eos_token_ids"}
    assert bundle.metadata["language"]["eos_token_ids"] == [1, 16, 9]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (changed("metadata_version", to="0.1"), "metadata_version is '0.1'; it must be '0.2'"),
        (changed("metadata_version", to=...), "metadata_version is None; it must be '0.2'"),
        (changed("kind", to="diffusion"), "kind is 'diffusion'; it must be one of llm, vlm"),
        (changed("kind", to=["llm"]), "kind is ['llm']; it must be one of llm, vlm"),
        (changed("name", to=7), "name is 7; it must be a non-empty string"),
        (changed("assets", to=["x"]), "assets is ['x']; it must map strings to strings, e.g. 'main' to a file name"),
        (changed("assets", "main", to="other.aimodel"), "other.aimodel is missing or not a directory"),
        (changed("assets", "main", to="../x.aimodel"), "assets.main is '../x.aimodel', outside the bundle"),
        (changed("assets", "main", to="/x.aimodel"), "assets.main is '/x.aimodel', outside the bundle"),
        (changed("language", to=...), "language is None; it must be an object with tokenizer, vocab_size"),
        (changed("language", "vocab_size", to="many"), "language.vocab_size is 'many'; it must be a non-empty int"),
        (changed("language", "tokenizer", to=...), "language.tokenizer is None; it must be a non-empty str"),
        (changed("kind", to="vlm"), "vision.image_size is None; kind 'vlm' needs it as a whole number"),
        (DOCUMENTED | {"multimodal": {"image_token_id": -1}}, "multimodal.image_token_id is -1; it must be a whole"),
        (DOCUMENTED | {"multimodal": {"stop_token_ids": 1}}, "multimodal.stop_token_ids is 1; it must be a list of"),
        (DOCUMENTED | {"multimodal": {"mask_rule": "x"}}, "multimodal.mask_rule is 'x'; it must be one of forward"),
        (DOCUMENTED | {"multimodal": {"image_token_id": 300000}}, "image is 300000; language.vocab_size is 262144"),
    ],
)
def test_each_error_is_said_in_words_and_check_refuses(tmp_path: Path, metadata: Any, message: str) -> None:
    bundle = Bundle.read(make(tmp_path / "b", metadata))
    assert any(error.startswith(message) for error in errors(bundle)), errors(bundle)
    with pytest.raises(AssetError, match="is not a complete Core AI bundle"):
        check_bundle(bundle)


def test_a_vlm_bundle_may_hold_its_vision_block_in_either_place(tmp_path: Path) -> None:
    vision = {"image_size": 768, "patch_size": 16, "image_token_count": 280, "image_token_id": 258880}
    for index, metadata in enumerate(
        (DOCUMENTED | {"kind": "vlm", "vision": vision}, changed("language", "vision", to=vision) | {"kind": "vlm"})
    ):
        assert errors(Bundle.read(make(tmp_path / str(index), metadata))) == []


def test_missing_files_are_all_named_at_once(tmp_path: Path) -> None:
    bundle = Bundle.read(make(tmp_path / "b", DOCUMENTED, files=False))
    assert errors(bundle) == [
        "gemma_4_12b_it_mm_4bit.aimodel is missing or not a directory; the metadata names it as the model",
        "tokenizer/tokenizer.json is missing; copy the model's own there",
    ]


def test_without_an_assets_entry_the_only_model_is_taken(tmp_path: Path) -> None:
    path = make(tmp_path / "b", changed("assets", to=...))
    assert Bundle.read(path).asset_path.name == "gemma_4_12b_it_mm_4bit.aimodel"
    (path / "second.aimodel").mkdir()
    with pytest.raises(AssetError, match=r"names no assets.main, and .* holds 2 \.aimodel; name one"):
        _ = Bundle.read(path).asset_path


def test_an_older_tokenizer_holds_its_template_in_its_configuration(tmp_path: Path) -> None:
    path = make(tmp_path / "b", DOCUMENTED)
    (path / "tokenizer" / "chat_template.jinja").unlink()
    wanted = "tokenizer has no chat_template.jinja; give a template to format messages"
    assert wanted in [problem.message for problem in find_problems(Bundle.read(path))]
    (path / "tokenizer" / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert wanted not in [problem.message for problem in find_problems(Bundle.read(path))]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_metadata_that_is_no_object_is_an_asset_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metadata.json").write_bytes(content)
    with pytest.raises(AssetError, match=r"metadata\.json"):
        Bundle.read(tmp_path)


def test_a_path_that_is_no_bundle_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="give the directory of a Core AI bundle"):
        Bundle.read(tmp_path / "nowhere")
    with pytest.raises(AssetError, match="is a model; give the bundle"):
        Bundle.read(tmp_path / "x.aimodel")


def test_an_asset_is_compared_with_the_hash_beside_it(tmp_path: Path) -> None:
    asset = tmp_path / "x.aimodel"
    asset.mkdir()
    with pytest.raises(AssetError, match=r"has no program \(main.mlirb\); the download or conversion is incomplete"):
        verify_asset(asset)
    (asset / "main.mlirb").write_bytes(b"program")
    with pytest.raises(AssetError, match=r"cannot compare .*main\.mlirb with its main\.hash"):
        verify_asset(asset)
    (asset / "main.hash").write_bytes(bytes(32))
    with pytest.raises(AssetError, match=r"has SHA-256 [0-9a-f]{64}, main\.hash says 0{64}; the file is cut short"):
        verify_asset(asset)
    verify_asset(asset, compare_hash=False)
