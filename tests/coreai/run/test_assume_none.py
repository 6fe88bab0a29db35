"""Shapes and element types come from the descriptors alone: an asset that differs in every free choice runs too."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gemma4_mm.coreai.bundle.bundle import Bundle, build_metadata, write_metadata
from gemma4_mm.coreai.bundle.constants import MultimodalConstants
from gemma4_mm.coreai.run.prefix import PromptTokens
from gemma4_mm.coreai.run.reply import Statistics
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.coreai.run.sequence import TokenSequence
from gemma4_mm.errors import AssetError, InputError
from gemma4_mm.inputs import ModelInputs, Segment

pytestmark = pytest.mark.parity
VOCABULARY, WIDTH = 11, 4


def make_toy(path: Path) -> None:
    from gemma4_mm.coreai.convert.convert import load_tools

    load_tools()
    from tests.coreai.toy import build_toy_asset

    (path / "tokenizer").mkdir(parents=True)
    (path / "tokenizer" / "tokenizer.json").write_text("{}")
    build_toy_asset(path / "toy.aimodel")
    metadata = build_metadata(
        name="toy",
        asset_name="toy.aimodel",
        vocabulary=300_000,  # wrong on purpose: the width of the logits counts
        max_context=64,
        constants=MultimodalConstants(),
        hf_model_id="toy",
        compression=None,
        date="2026-06-20T10:00:00+00:00",
    )
    write_metadata(path, metadata)


@pytest.fixture(scope="module")
def toy(cached_bundle: Callable[[str, Callable[[Path], object]], Bundle]) -> Iterator[Runtime]:
    with Runtime.open(cached_bundle("toy", make_toy)) as opened:
        yield opened


def table(ids: list[int]) -> np.ndarray:
    return np.arange(VOCABULARY * WIDTH, dtype=np.float32).reshape(VOCABULARY, WIDTH)[ids]


def as_bfloat16(values: np.ndarray) -> np.ndarray:
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def test_the_asset_is_within_the_contract(toy: Runtime) -> None:
    assert toy.problems == ()
    assert toy.vocabulary == VOCABULARY
    assert str(toy.functions["main"].states["k_cache"]) == "bfloat16 [2, 1, ?, 4]"
    assert str(toy.functions["prefill_multimodal"].inputs["mask_global"]) == "bool [1, ?, ?]"


def test_an_open_context_axis_takes_the_rows_that_are_asked_for(toy: Runtime) -> None:
    with pytest.raises(InputError, match=r"leaves the context of k_cache open \(bfloat16 \[2, 1, \?, 4\]\); say how"):
        toy.new_state()
    with pytest.raises(InputError, match="it cannot have 2 rows"):
        toy.new_state(rows=2)
    state = toy.new_state(rows=6)
    assert state.capacity == 5
    toy.run("main", {"input_ids": [1, 2, 3, 4]}, state=state)
    toy.run("main", {"input_ids": [5]}, state=state)
    with pytest.raises(InputError, match="has 1 tokens after 5; the KV state takes 5"):
        toy.run("main", {"input_ids": [6]}, state=state)


def test_a_sequence_takes_the_rows_and_the_width_that_the_asset_has(toy: Runtime) -> None:
    assert toy.has_open_context
    inputs = ModelInputs(
        {
            "input_ids": np.array([[1, 2, 3, 4]]),
            "mm_token_type_ids": np.array([[0, 3, 3, 0]]),
            "input_features": np.array([[[0.5] * 640, [1.5] * 640]], np.float32),
            "input_features_mask": np.ones((1, 2), np.bool_),
        },
        segments=[
            Segment(kind="text", row=0, start=0, stop=1),
            Segment(kind="audio", row=0, start=1, stop=3, item=0),
            Segment(kind="text", row=0, start=3, stop=4),
        ],
        profile="test",
    )
    attended = np.array([1, 2, 3, 4])[:, None]
    embeds = np.array([[1.0] * WIDTH, [3.0] * WIDTH])  # twice the features
    expected = (np.concatenate([table([1]), embeds, table([4])]) + attended).sum()
    logits = finish(start(toy), inputs)
    assert np.array_equal(logits, as_bfloat16(np.full(VOCABULARY, expected)))
    with pytest.raises(AssetError, match="returns 1 rows of logits for 8 tokens, so that padding hides the last one's"):
        finish(start(toy, chunk_lengths=(8,)), inputs)


def start(toy: Runtime, **options: Any) -> TokenSequence:
    defaults = {"mask_rule": "forward", "sliding_window": 16, "max_chunk": 8, "chunk_lengths": None, "rows": 32}
    return TokenSequence(toy, **defaults | {"cache_bytes": 1 << 20} | options)


def finish(sequence: TokenSequence, inputs: ModelInputs) -> np.ndarray:
    steps = sequence.prefill(inputs, PromptTokens.from_inputs(inputs), Statistics())
    answer = None
    while True:
        try:
            answer = steps.send(answer).result()
        except StopIteration as end:
            return end.value


def test_logits_are_picked_by_name_and_returned_as_float32(toy: Runtime) -> None:
    state = toy.new_state(rows=64)
    ids = [1, 2, 3]
    logits = toy.run("main", {"input_ids": ids}, state=state)
    assert logits.dtype == np.float32
    assert np.array_equal(logits, as_bfloat16(np.full(VOCABULARY, table(ids).sum())))
    further = toy.run("main", {"input_ids": [10]}, state=state, rows="all")
    assert np.array_equal(further, as_bfloat16(np.full((1, VOCABULARY), table([*ids, 10]).sum())))


def test_embeddings_and_masks_are_converted_to_the_descriptors(toy: Runtime) -> None:
    state = toy.new_state(rows=64)
    embeds = np.array([[0, 0, 0, 0], [0.5, 1.5, 2.5, 3.5]], np.float64)
    masks = np.array([[1, 0], [1, 1]], np.uint8)
    inputs = {"input_ids": [1, 2], "mm_embeds": embeds, "mm_mask": [0, 1], "mask_sliding": masks, "mask_global": masks}
    logits = toy.run("prefill_multimodal", inputs, state=state)
    attended = masks.sum(1, keepdims=True)
    expected = (np.where([[False], [True]], embeds, table([1, 2])) + attended).sum()
    assert np.array_equal(logits, as_bfloat16(np.full(VOCABULARY, expected)))


def test_float16_pixels(toy: Runtime) -> None:
    pixels = np.random.default_rng(0).random((3, 6912), np.float32)
    embeds = toy.run("embed_vision", {"pixel_values": pixels, "image_position_ids": [[0, 1], [2, 3], [-1, -1]]})
    expected = pixels[:, :WIDTH].astype(np.float16) + np.array([[1], [5], [-2]], np.float16)
    assert embeds.dtype == np.float32
    assert np.array_equal(embeds, expected.astype(np.float32))
    with pytest.raises(InputError, match="every value must be finite in float16"):
        toy.run("embed_vision", {"pixel_values": pixels * 1e6, "image_position_ids": np.zeros((3, 2), int)})
