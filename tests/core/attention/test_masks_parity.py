"""Both masks against the live oracle, element by element."""

import numpy as np
import pytest
from hypothesis import given, settings

from gemma4_mm.core.attention.masks import build_masks, describe_masks, to_additive
from gemma4_mm.testing.strategies import MaskLayout, mask_layouts
from tests.core.attention.mask_layouts import LAYERS, on_reference_columns, reference_masks, text_config

pytestmark = pytest.mark.parity


def assert_same_masks(layout, rule):
    import torch

    specs = describe_masks(**layout.arguments, rule=rule)
    masks, offsets = reference_masks(layout, rule=rule)
    assert set(masks) == set(LAYERS)
    for layer in LAYERS:
        ours = on_reference_columns(getattr(specs, layer).dense(), offset=offsets[layer], n_keys=masks[layer].shape[-1])
        assert torch.equal(torch.from_numpy(ours), masks[layer]), layer


@given(layout=mask_layouts())
@settings(max_examples=500)
def test_forward_masks_are_those_of_the_model(layout):
    assert_same_masks(layout, "forward")


@given(layout=mask_layouts())
@settings(max_examples=500)
def test_static_masks_are_those_of_static_generation(layout):
    assert_same_masks(layout, "static")


@pytest.mark.parametrize("rule", ["forward", "static"])
@pytest.mark.parametrize("window", [64, 1024, 2048])
def test_long_prompts_with_blocks_beyond_the_window(rule, window):
    types = np.repeat([[0] * 2 + [1], [3, 0, 2]], 700, axis=1)
    types[0, 300:1700] = 1  # 1400 tokens of vision: longer than the model's window
    attention = np.ones_like(types)
    attention[1, :90] = 0
    assert_same_masks(MaskLayout(types=types, window=window), rule)
    assert_same_masks(MaskLayout(types=types, window=window, attention=attention), rule)
    assert_same_masks(MaskLayout(types=types, window=window, past=1900, cache="dynamic"), rule)
    assert_same_masks(MaskLayout(types=types, window=window, past=100, capacity=2300, cache="static"), rule)


def test_build_masks_are_the_models_own():
    import torch

    types = np.array([[0, 1, 1, 1, 0, 2, 2, 0, 3, 3]])
    masks, _ = reference_masks(MaskLayout(types=types, window=2), rule="forward")
    ours = build_masks(types, sliding_window=2)
    assert torch.equal(torch.from_numpy(ours.mask_sliding), masks["sliding_attention"])
    assert torch.equal(torch.from_numpy(ours.mask_global), masks["full_attention"])


def test_block_ids_are_the_references():
    import torch
    from transformers.models.gemma4_unified.modeling_gemma4_unified import get_block_sequence_ids_for_mask

    types = np.random.default_rng(0).integers(0, 4, (5, 300))
    theirs = get_block_sequence_ids_for_mask(torch.from_numpy(types), device=torch.device("cpu"))
    assert np.array_equal(describe_masks(types).full_attention.block_ids, theirs.numpy())


def test_additive_masks_are_those_of_eager_attention():
    import torch
    from transformers.masking_utils import create_causal_mask

    embeds = torch.zeros(1, 9, 1)
    theirs = create_causal_mask(text_config(4, "eager"), embeds, None, None)
    assert torch.equal(torch.from_numpy(to_additive(build_masks(np.zeros((1, 9), int)).mask_global)), theirs)
