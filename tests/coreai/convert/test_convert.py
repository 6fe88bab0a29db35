"""Conversion refuses what it cannot do, records what it did, and its gates can fail."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.bundle.schema import check_bundle, find_problems
from gemma4_mm.coreai.convert.convert import ConversionOptions, convert_checkpoint, convert_model
from gemma4_mm.coreai.convert.gates import Gate, compare, make_probes, psnr_db, require_passed
from gemma4_mm.coreai.convert.tiny import tiny_constants
from gemma4_mm.coreai.convert.tiny_tokenizer import vocabulary_size
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.errors import AssetError, InputError, InvariantError

pytestmark = pytest.mark.parity


def test_the_bundle_records_the_model(tiny_bundle: Bundle) -> None:
    assert [problem.level for problem in find_problems(tiny_bundle)] == ["note"]  # no chat template was given
    check_bundle(tiny_bundle)
    assert tiny_bundle.vocabulary == vocabulary_size()
    assert tiny_bundle.constants == tiny_constants()
    assert tiny_bundle.metadata["compression"] is None


def test_an_existing_directory_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists; choose another directory"):
        convert_model(None, tmp_path, tokenizer=tmp_path)


def test_a_directory_without_a_tokenizer_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"has no tokenizer\.json; give the directory"):
        convert_model(None, tmp_path / "out", tokenizer=tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("coreai")
def test_a_directory_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="is not a Gemma4Unified checkpoint"):
        convert_checkpoint(tmp_path, tmp_path / "out")


@pytest.mark.usefixtures("coreai")
def test_a_checkpoint_that_lacks_weights_is_refused_not_filled_with_random_ones(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    from gemma4_mm.coreai.convert.tiny import tiny_model

    tiny_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.language_model.layers.3.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AssetError, match=r"lacks 1 weights, the first is .*layers\.3\.mlp\.up_proj\.weight"):
        convert_checkpoint(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("context", [63, 0, -1, 100.0])
def test_a_context_too_short_for_the_traced_sizes_is_refused(context: Any) -> None:
    with pytest.raises(InputError, match=f"context_length is {context}; it must be at least 64"):
        ConversionOptions(context_length=context)


@pytest.mark.usefixtures("coreai")
def test_constants_of_a_model_come_from_its_configuration() -> None:
    from gemma4_mm.coreai.convert.convert import model_constants
    from gemma4_mm.coreai.convert.tiny import tiny_model

    model = tiny_model()
    model.generation_config.eos_token_id = [1, 16, 9]
    model.generation_config.suppress_tokens = [22, 21]
    published_budgets = {"image_soft_tokens": 280, "video_frames": 32}
    assert model_constants(model) == replace(tiny_constants(), **published_budgets)


@pytest.mark.usefixtures("coreai")
def test_int4_refuses_layers_that_blocks_do_not_divide() -> None:
    import torch

    from gemma4_mm.coreai.convert.convert import load_tools
    from gemma4_mm.coreai.convert.tiny import tiny_model

    _, quantize = load_tools()
    model = tiny_model()
    model.model.language_model.layers[0].mlp.up_proj = torch.nn.Linear(33, 8)
    with pytest.raises(InputError, match="a decoder layer has 33 input channels; int4 takes multiples of 32"):
        quantize.quantize_decoder(model)


def test_psnr_of_known_errors() -> None:
    reference = np.array([10.0, 0.0, 0.0, 0.0], np.float32)
    assert psnr_db(reference, reference) == float("inf")
    assert psnr_db(reference, reference + np.float32(0.1)) == pytest.approx(40, abs=1e-3)
    assert psnr_db(reference, reference + np.float32(1)) == pytest.approx(20, abs=1e-3)


def test_a_missed_gate_against_the_graph_refuses_the_asset_and_one_against_the_weights_reports() -> None:
    missed = Gate(function="main", reference="graph", psnr_db=69.9)
    with pytest.raises(InvariantError, match=r"main against its graph: 69\.9 dB, gate 70 dB, missed; do not use it"):
        require_passed((missed,))
    require_passed((replace(missed, psnr_db=70.0), Gate(function="main", reference="weights", psnr_db=15.0)))


def test_an_asset_of_other_weights_misses_the_gates(runtime: Runtime) -> None:
    """The gate sees a wrong asset: the same configuration with another seed."""
    import torch

    from gemma4_mm.coreai.convert import export
    from gemma4_mm.coreai.convert.gates import run_asset
    from gemma4_mm.coreai.convert.tiny import tiny_model

    probes = make_probes(vocabulary=vocabulary_size(), hidden=64, patch_values=6912, samples_per_token=640)
    outputs = run_asset(runtime, probes)
    for seed, passes in ((0, True), (1, False)):
        model = tiny_model(seed=seed)
        with export.eager_inference(model):
            plans = export.plan_exports(model, context_length=64, states="float32")
            gates = compare(outputs, export.run_plans(plans, probes), reference="graph")
        assert [gate.passed for gate in gates] == [passes] * 4
    assert torch.is_grad_enabled()
