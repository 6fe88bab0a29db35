"""Apple's contract: a bundle that keeps it passes every rule, and each broken one turns its own rule red, alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gemma4_mm.cli.app import run
from gemma4_mm.coreai.bundle.bundle import Bundle, build_metadata
from gemma4_mm.coreai.bundle.constants import MultimodalConstants
from gemma4_mm.coreai.bundle.contract import check_contract
from gemma4_mm.coreai.bundle.contract_asset import ASSET_RULES
from gemma4_mm.coreai.bundle.contract_files import FILE_RULES
from gemma4_mm.coreai.bundle.specs import FunctionSpec
from tests.coreai import specs
from tests.coreai.bundle.test_bundle import DOCUMENTED, make

VOCABULARY = 500
Functions = dict[str, FunctionSpec]
STATE = ((48, 1, 8, None, 256), ml_dtypes.bfloat16)
VISION = {"image_size": 768, "patch_size": 16, "image_token_count": 280, "image_token_id": 258880}


def metadata() -> dict[str, Any]:
    return build_metadata(
        name="good",
        asset_name="gemma_4_12b_it_mm_4bit.aimodel",
        vocabulary=VOCABULARY,
        max_context=8192,
        constants=MultimodalConstants(),
        hf_model_id="google/gemma-4-12B-it",
        compression="int4-block32",
        date="2026-11-29T10:00:00+00:00",
    )


def functions(**changes: Any) -> Functions:
    main = FunctionSpec(
        name="main",
        inputs=specs.tensors(input_ids=((1, None), np.int32), position_ids=((1, None), np.int32)),
        outputs=specs.tensors(logits=((1, None, VOCABULARY), np.float16)),
        states=specs.tensors(keyCache=STATE, valueCache=STATE),
    )
    main = replace(main, **changes)
    return {"main": main, "prefill_multimodal": replace(specs.prefill(), states=main.states)}


def write(path: Path, content: dict[str, Any]) -> Bundle:
    made = make(path, content)
    (made / "tokenizer" / "tokenizer_config.json").write_text("{}")
    return Bundle.read(made)


def red(bundle: Bundle, given: Functions | None) -> list[str]:
    return [check.name for check in check_contract(bundle, given) if check.verdict in ("refused", "advice")]


def test_a_bundle_that_keeps_the_contract_passes_every_rule(tmp_path: Path) -> None:
    checks = check_contract(write(tmp_path / "b", metadata()), functions())
    assert {check.verdict for check in checks} == {"passed"}
    assert len({check.name for check in checks}) == len(checks) == len(FILE_RULES) + len(ASSET_RULES)


def test_rules_about_functions_are_unseen_until_the_model_is_loaded(tmp_path: Path) -> None:
    checks = check_contract(write(tmp_path / "b", metadata()))
    unseen = [check.name for check in checks if check.verdict == "unseen"]
    assert unseen == [rule.name for rule in ASSET_RULES]


def language(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["language"].update(changes)


def top(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content.update(changes)


BROKEN_METADATA: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("metadata-version", top(metadata_version="0.1")),
    ("kind", top(kind="diffusion")),
    ("vision-block", top(kind="vlm")),
    ("vision-block", top(kind="vlm", vision=VISION | {"image_size": [768, 512]})),
    ("assets-main", top(assets={"main": "other.aimodel"})),
    ("assets-main", top(assets={"main": "../gemma_4_12b_it_mm_4bit.aimodel"})),
    ("language-tokenizer", language(tokenizer="")),
    ("language-max-context-length", language(max_context_length=None)),
    ("language-embedded-tokenizer", language(embedded_tokenizer=False)),
    ("function-map", language(function_map={"main": "main"})),
    ("eos-token-ids", language(eos_token_ids=None)),
    ("eos-token-ids-complete", language(eos_token_ids=[1])),
    ("language-vocab-size", language(vocab_size="many")),
    ("logits-width", language(vocab_size=VOCABULARY + 1)),
]


@pytest.mark.parametrize(("name", "spoil"), BROKEN_METADATA)
def test_broken_metadata_turns_exactly_its_rule_red(tmp_path: Path, name: str, spoil: Any) -> None:
    content = metadata()
    spoil(content)
    assert red(write(tmp_path / "b", content), functions()) == [name]


@pytest.mark.parametrize(
    ("file", "name"), [("tokenizer.json", "tokenizer-json"), ("tokenizer_config.json", "tokenizer-config")]
)
def test_a_missing_tokenizer_file_turns_exactly_its_rule_red(tmp_path: Path, file: str, name: str) -> None:
    bundle = write(tmp_path / "b", metadata())
    (bundle.tokenizer_path / file).unlink()
    assert red(bundle, functions()) == [name]


INT32, HALF = np.int32, np.float16
FLAT, FIXED = ((48, 1, None, 2048), HALF), ((48, 1, 8, 64, 256), HALF)
PAIR: dict[str, Any] = {"input_ids": ((1, None), INT32), "position_ids": ((1, None), INT32)}
BROKEN_MAIN: list[tuple[str, dict[str, Any]]] = [
    ("main-inputs", {"inputs": specs.tensors(**dict(reversed(PAIR.items())))}),
    ("main-inputs", {"inputs": specs.tensors(**PAIR, mask=((1, None), INT32))}),
    ("main-input-types", {"inputs": specs.tensors(**PAIR | {"position_ids": ((1, None), np.int64)})}),
    ("main-input-lengths", {"inputs": specs.tensors(**PAIR | {"input_ids": ((1, 1), INT32)})}),
    ("logits-first", {"outputs": specs.tensors(hidden=((1, None, VOCABULARY), HALF), logits=((1, 500), HALF))}),
    ("logits-first", {"outputs": {}}),
    ("logits-float16", {"outputs": specs.tensors(logits=((1, None, VOCABULARY), np.float32))}),
    ("logits-width", {"outputs": specs.tensors(logits=((1, None, 499), HALF))}),
    ("state-count", {"states": {}}),
    ("state-count", {"states": specs.tensors(keyCache=STATE, valueCache=STATE, a=STATE, b=STATE, c=STATE)}),
    ("state-names", {"states": specs.tensors(k_cache=STATE, v_cache=STATE)}),
    ("state-types", {"states": specs.tensors(keyCache=(STATE[0], np.float64), valueCache=STATE)}),
    ("state-shapes", {"states": specs.tensors(keyCache=FLAT, valueCache=FLAT)}),
    ("state-length", {"states": specs.tensors(keyCache=FIXED, valueCache=FIXED)}),
]


@pytest.mark.parametrize(("name", "changes"), BROKEN_MAIN)
def test_a_broken_main_turns_exactly_its_rule_red(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    assert red(write(tmp_path / "b", metadata()), functions(**changes)) == [name]


def test_a_model_without_main_and_one_with_two_kinds_of_states(tmp_path: Path) -> None:
    bundle, given = write(tmp_path / "b", metadata()), functions()
    assert red(bundle, {"prefill_multimodal": given["prefill_multimodal"]}) == ["main-function"]
    assert red(bundle, given | {"prefill_multimodal": specs.prefill()}) == ["state-sharing"]


def test_every_rule_is_broken_by_some_bundle_here() -> None:
    broken = {name for name, _ in (*BROKEN_METADATA, *BROKEN_MAIN)}
    broken |= {"tokenizer-json", "tokenizer-config", "main-function", "state-sharing"}
    assert broken == {rule.name for rule in (*FILE_RULES, *ASSET_RULES)}


def test_the_command_says_what_it_found_what_is_wanted_and_who_needs_it(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    good = write(tmp_path / "good", metadata())
    assert run(["bundle", "check", str(good.path), "--no-load"]) == 0
    assert "ok      metadata-version: metadata_version is '0.2'\n" in capfd.readouterr().out
    bad = write(tmp_path / "bad", metadata() | {"kind": "diffusion"})
    assert run(["bundle", "check", str(bad.path), "--no-load"]) == 1
    wanted = "REFUSED kind: kind is 'diffusion'; wanted: 'llm' or 'vlm' (bundle reader)\n"
    assert wanted in capfd.readouterr().out
    assert run(["bundle", "check", str(bad.path), "--no-load", "--json"]) == 1
    report = {check["name"]: check for check in json.loads(capfd.readouterr().out)}
    assert (report["kind"]["verdict"], report["logits-float16"]["verdict"]) == ("refused", "unseen")


def test_info_shows_what_the_contract_misses(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert run(["bundle", "info", str(make(tmp_path / "b", DOCUMENTED))]) == 0
    text = capfd.readouterr().out
    assert "Apple's engines: advice  eos-token-ids: language.eos_token_ids is None; wanted: the list of ids" in text
    assert "Apple's engines: REFUSED tokenizer-config: tokenizer/tokenizer_config.json is missing" in text
