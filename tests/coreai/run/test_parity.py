"""Greedy tokens of the tiny bundle on Apple's runtime are those of Hugging Face's `generate` on the same weights."""

from typing import Any

import numpy as np
import pytest

from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.run.runtime import Runtime
from tests.coreai import drive

pytestmark = pytest.mark.parity

N_TOKENS = 24
LOGIT_TOLERANCE = 1e-3  # the two add in different orders; a wrong mask moves logits by some tenths
LAYOUTS = ("t", "tt", "tit", "titit", "tvt", "tat", "tiatvt", "iit", "ait", "vat")


@pytest.mark.parametrize("rule", ["forward", "static"])
@pytest.mark.parametrize(("seed", "layout"), list(enumerate(LAYOUTS)))
def test_multimodal_prefill_then_decode(runtime: Runtime, tiny_model: Any, seed: int, layout: str, rule: str) -> None:
    prompt = drive.make_prompt(layout, seed=seed)
    expected, expected_logits = drive.reference(tiny_model, prompt, rule=rule, n_tokens=N_TOKENS)
    state = runtime.new_state()
    logits = drive.prefill(runtime, prompt, state, rule=rule)
    tokens, rows = drive.decode(runtime, logits, state, n_tokens=N_TOKENS)
    assert tokens == expected
    assert np.abs(rows - expected_logits).max() < LOGIT_TOLERANCE
    assert state.length == len(prompt.ids) + N_TOKENS - 1


@pytest.mark.parametrize("seed", [100, 101])
def test_text_alone_through_main(runtime: Runtime, tiny_model: Any, seed: int) -> None:
    prompt = drive.make_prompt("ttt", seed=seed)
    expected, expected_logits = drive.reference(tiny_model, prompt, rule="forward", n_tokens=N_TOKENS)
    state = runtime.new_state()
    logits = runtime.run("main", {"input_ids": prompt.ids}, state=state)
    tokens, rows = drive.decode(runtime, logits, state, n_tokens=N_TOKENS)
    assert tokens == expected
    assert np.abs(rows - expected_logits).max() < LOGIT_TOLERANCE


@pytest.mark.parametrize("rule", ["forward", "static"])
def test_chunks_between_blocks_change_nothing(runtime: Runtime, tiny_model: Any, rule: str) -> None:
    prompt = drive.make_prompt("titvt", seed=7)
    expected, _ = drive.reference(tiny_model, prompt, rule=rule, n_tokens=N_TOKENS)
    first_end = prompt.ids.index(drive.IDS.eoi) + 1
    state = runtime.new_state()
    logits = drive.prefill(runtime, prompt, state, rule=rule, cuts=(2, first_end, len(prompt.ids) - 1))
    assert drive.decode(runtime, logits, state, n_tokens=N_TOKENS)[0] == expected


def test_a_cut_block_is_noticed(runtime: Runtime, tiny_model: Any) -> None:
    """The comparison can fail: a chunk that ends inside an image gives other logits."""
    prompt = drive.make_prompt("tit", seed=8)
    _, expected = drive.reference(tiny_model, prompt, rule="forward", n_tokens=1)
    inside = prompt.ids.index(drive.IDS.image) + 5
    logits = drive.prefill(runtime, prompt, runtime.new_state(), rule="forward", cuts=(inside,))
    assert np.abs(logits - expected[0]).max() > 100 * LOGIT_TOLERANCE


def test_the_other_rule_is_noticed(runtime: Runtime, tiny_model: Any) -> None:
    prompt = drive.make_prompt("tit", seed=9)
    _, expected = drive.reference(tiny_model, prompt, rule="forward", n_tokens=1)
    logits = drive.prefill(runtime, prompt, runtime.new_state(), rule="static")
    assert np.abs(logits - expected[0]).max() > 10 * LOGIT_TOLERANCE


def test_a_sampled_placeholder_is_read_as_padding_as_in_the_reference(runtime: Runtime, tiny_model: Any) -> None:
    import torch

    ids = [drive.IDS.bos, 300, drive.IDS.image, 301, drive.IDS.audio, 302, drive.IDS.video]
    with torch.no_grad():
        expected = tiny_model(input_ids=torch.tensor([ids])).logits[0].numpy()
    rows = runtime.run("main", {"input_ids": ids}, state=runtime.new_state(), rows="all")
    assert np.abs(rows - expected).max() < LOGIT_TOLERANCE


def test_rewinding_to_a_prefix_continues_it(runtime: Runtime) -> None:
    prompt = drive.make_prompt("tt", seed=10)
    state = runtime.new_state()
    whole = runtime.run("main", {"input_ids": prompt.ids}, state=state)
    runtime.run("main", {"input_ids": [400, 401, 402]}, state=state)
    state.rewind(len(prompt.ids) - 2)
    again = runtime.run("main", {"input_ids": prompt.ids[-2:]}, state=state)
    assert np.abs(again - whole).max() < LOGIT_TOLERANCE


def test_the_convert_command_writes_what_its_options_say(int4_bundle: Bundle) -> None:
    assert int4_bundle.metadata["compression"] == "int4-block32"
    assert (int4_bundle.name, int4_bundle.max_context) == ("tiny", 256)


def test_int4_is_the_reference_with_dequantised_weights(
    int4_runtime: Runtime, dequantised_model: Any, tiny_model: Any
) -> None:
    for seed, layout in enumerate(("tt", "tit", "tat")):
        prompt = drive.make_prompt(layout, seed=200 + seed)
        expected, expected_logits = drive.reference(dequantised_model, prompt, rule="forward", n_tokens=N_TOKENS)
        state = int4_runtime.new_state()
        logits = drive.prefill(int4_runtime, prompt, state, rule="forward")
        tokens, rows = drive.decode(int4_runtime, logits, state, n_tokens=N_TOKENS)
        assert tokens == expected
        assert np.abs(rows - expected_logits).max() < 2e-4
        assert np.abs(drive.reference(tiny_model, prompt, rule="forward", n_tokens=1)[1] - rows[:1]).max() > 0.01
