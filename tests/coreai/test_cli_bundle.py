"""`gemma4-mm bundle`: the documented bundle in words, broken ones, and what conversion refuses."""

import json
from pathlib import Path

import pytest

from gemma4_mm.cli.app import run
from gemma4_mm.coreai.bundle.bundle import Bundle
from tests.coreai.bundle.test_bundle import DOCUMENTED, changed, make

# The function table of the bundle's document; q, t, P, T, V and H stand for sizes.
TABLE = {
    "main": (["input_ids [1, q]", "position_ids [1, t]", "KV states"], "logits [1, q, V]"),
    "prefill_multimodal": (
        [
            "input_ids [1, q]",
            "mm_embeds [1, q, H]",
            "mm_mask [1, q]",
            "position_ids [1, t]",
            "mask_sliding […, q, t]",
            "mask_global […, q, t]",
            "KV states",
        ],
        "logits [1, q, V]",
    ),
    "embed_vision": (["pixel_values [1, P, 6912]", "image_position_ids [1, P, 2]"], "embeds [1, P, H]"),
    "embed_audio": (["input_features [1, T, 640]"], "embeds [1, T, H]"),
}


def test_info_of_the_documented_bundle_prints_its_function_table(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = make(tmp_path / "gemma", DOCUMENTED)
    assert run(["bundle", "info", str(path)]) == 0
    text = capfd.readouterr().out
    assert text.startswith(f"gemma_4_12b_it_mm_4bit in {path}\n")
    for name, (inputs, output) in TABLE.items():
        section = text[text.index(f"\n{name}\n") :].splitlines()[1:5]
        assert section[2] == f"    in   {', '.join(inputs)}"
        assert section[3] == f"    out  {output}"
    assert "image 258880" in text
    assert "stop         1, 106\n" in text
    assert "note: multimodal_constants is not a key of schema 0.2" in text
    assert text.endswith("complete: metadata, model and tokenizer are there\n")


def test_info_as_json_says_where_each_constant_was_found(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = make(tmp_path / "gemma", DOCUMENTED)
    assert run(["bundle", "info", str(path), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["constants"]["tokens"]["video"] == 258884
    assert report["found_at"]["stop_token_ids"] == "multimodal_constants.stop_tokens"
    assert [row["function"] for row in report["functions"]] == list(TABLE)
    assert report["errors"] == []


def test_info_of_a_broken_bundle_says_every_error_and_fails(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = make(tmp_path / "gemma", changed("assets", "main", to="other.aimodel"))
    (path / "tokenizer" / "tokenizer.json").unlink()
    assert run(["bundle", "info", str(path)]) == 1
    text = capfd.readouterr().out
    assert "error: other.aimodel is missing or not a directory" in text
    assert "error: tokenizer/tokenizer.json is missing" in text
    assert "complete:" not in text


def test_info_with_load_prints_what_the_model_declares(tiny_bundle: Bundle, capfd: pytest.CaptureFixture) -> None:
    assert run(["bundle", "info", str(tiny_bundle.path), "--load", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    rows = {row["function"]: row for row in report["functions"]}
    assert rows["embed_vision"]["inputs"] == "pixel_values float32 [1, ?, 6912], image_position_ids int32 [1, ?, 2]"
    assert rows["main"]["output"] == f"logits float32 [1, ?, {tiny_bundle.vocabulary}]"
    assert "keyCache float32 [6, 1, 2, 1024, 16] (state)" in rows["main"]["inputs"]
    assert report["asset_problems"] == []


def test_fake_weights_cannot_be_loaded_and_the_process_lives(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = make(tmp_path / "gemma", DOCUMENTED)
    assert run(["bundle", "info", str(path), "--load"]) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "gemma_4_12b_it_mm_4bit.aimodel" in captured.err


@pytest.mark.usefixtures("coreai", "assets")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["info", "nowhere"], "give the directory of a Core AI bundle"),
        (["tiny", "."], ". exists; choose another directory"),
        (["tiny", "out", "--context-length", "8"], "context_length is 8; it must be at least 64"),
        (["convert", "nowhere", "out"], "nowhere is not a Gemma4Unified checkpoint"),
    ],
)
def test_a_bad_command_line_is_refused_in_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["bundle", *words]) == 1
    captured = capfd.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []
