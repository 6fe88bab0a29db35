"""The masks' slow twin, and the two reference calls that the masks are compared with."""

from functools import cache
from itertools import pairwise

import numpy as np

LAYERS = ("full_attention", "sliding_attention")


def twin(layout, *, rule, layer):
    """The formulas, one query and one key at a time: bool `(batch, 1, queries, keys)`."""
    batch, length = layout.types.shape
    keys = layout.capacity or length
    mask = np.zeros((batch, 1, length - layout.past, keys), bool)
    for row in range(batch):
        blocks = number_blocks(layout.types[row])
        sequences, looked_up = [0] * length, list(range(length))
        if layout.positions is not None:
            positions = layout.positions[row % len(layout.positions)].tolist()
            for i in range(1, length):
                sequences[i] = sequences[i - 1] + (positions[i] != positions[i - 1] + 1)
            if rule == "static" and any(layout_is_packed(p) for p in layout.positions.tolist()):
                looked_up = positions
        for q in range(layout.past, length):
            for k in range(length):
                together = blocks[looked_up[q]] == blocks[looked_up[k]] >= 0
                seen = attends(q, k, window=layout.window, together=together, rule=rule, layer=layer)
                valid = layout.attention is None or layout.attention[row, k] == 1
                mask[row, 0, q - layout.past, k] = seen and valid and sequences[q] == sequences[k]
    return mask


def layout_is_packed(positions):
    return any(after != before + 1 for before, after in pairwise(positions))


def attends(q, k, *, window, together, rule, layer):
    """REFERENCE formulas for one query and key; `together`: both in one vision block."""
    if layer == "full_attention":
        return k <= q or (rule == "forward" and together)
    if rule == "forward":
        return (k <= q and k > q - window) or together
    if rule == "static":
        return k > q - window and (k <= q or together)
    return abs(q - k) < window and (k <= q or together)


def number_blocks(types):
    """Number of each token's vision block, -1 outside."""
    blocks, block, inside = [], -1, False
    for kind in types:
        vision = kind in (1, 2)
        block += vision and not inside
        blocks.append(block if vision else -1)
        inside = vision
    return blocks


@cache
def text_config(window, implementation):
    """A text model of one sliding and one full layer; nothing of it but the mask settings is used."""
    from transformers.models.gemma4_unified import Gemma4UnifiedTextConfig

    config = Gemma4UnifiedTextConfig(
        num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], sliding_window=window
    )
    config._attn_implementation = implementation
    return config


def reference_masks(layout, *, rule):
    """Hugging Face's two masks as bool tensors, by layer, and the first key column of each."""
    import torch

    masks = _call_reference(layout, rule=rule, implementation="sdpa")
    if None in masks.values():  # sdpa passes "causal" as a flag; the eager masks are always written out
        eager = _call_reference(layout, rule=rule, implementation="eager")
        masks = {layer: eager[layer] == 0 if mask is None else mask for layer, mask in masks.items()}
    assert all(mask.dtype == torch.bool for mask in masks.values())
    sizes = {layer: _cache_of(layout, "sdpa") for layer in LAYERS}
    queries = layout.types.shape[1] - layout.past
    offsets = {
        layer: 0 if made is None else made.get_mask_sizes(queries, LAYERS[::-1].index(layer))[1]
        for layer, made in sizes.items()
    }
    return masks, offsets


def _call_reference(layout, *, rule, implementation):
    import torch
    from transformers.masking_utils import create_masks_for_generate
    from transformers.models.gemma4_unified import Gemma4UnifiedForConditionalGeneration
    from transformers.models.gemma4_unified.modeling_gemma4_unified import get_block_sequence_ids_for_mask

    batch, length = layout.types.shape
    types = torch.from_numpy(layout.types)
    config = text_config(layout.window, implementation)
    positions = np.arange(layout.past, length)[None] if layout.positions is None else layout.positions
    arguments = {
        "config": config,
        "inputs_embeds": torch.zeros(batch, length - layout.past, 1),
        "attention_mask": None if layout.attention is None else torch.from_numpy(layout.attention),
        "cache": _cache_of(layout, implementation),
        "position_ids": torch.from_numpy(positions),
    }
    if rule == "forward":
        blocks = get_block_sequence_ids_for_mask(types, device=types.device)
        return create_masks_for_generate(**arguments, block_sequence_ids=blocks)
    return Gemma4UnifiedForConditionalGeneration.create_masks_for_generate(**arguments, mm_token_type_ids=types)


def _cache_of(layout, implementation):
    import torch
    from transformers import DynamicCache, StaticCache

    config = text_config(layout.window, implementation)
    if layout.cache == "none":
        return None
    made = DynamicCache(config=config) if layout.cache == "dynamic" else StaticCache(config, layout.capacity)
    if layout.past:
        for layer in range(2):
            states = torch.zeros(len(layout.types), 1, layout.past, 1)
            made.update(states, states, layer)
    return made


def on_reference_columns(mask, *, offset, n_keys):
    """Our mask on the key columns of the reference: a sliding layer's cache drops old keys and has empty places."""
    columns = mask[..., offset : offset + n_keys]
    return np.pad(columns, ((0, 0), (0, 0), (0, 0), (0, n_keys - columns.shape[-1])))
