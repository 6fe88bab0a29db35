"""An asset with the contract's names and none of the tiny bundle's choices, to show that nothing is assumed.

bfloat16 embeddings, logits and states, float16 pixels, masks of rank 3, states under other names with an open context
axis, a `hidden` output before the logits, and logits of the last row only. Its arithmetic is trivial: the logits of a
call are the sums over what was cached.
"""

from pathlib import Path

import torch
from torch import Tensor

from gemma4_mm.coreai.convert.export import ExportPlan, save_asset

WIDTH = 4
VOCABULARY = 11
HALF = torch.bfloat16


class Main(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.arange(VOCABULARY * WIDTH).reshape(VOCABULARY, WIDTH).to(HALF))

    def cache(self, rows: Tensor, positions: Tensor, k_cache: Tensor, v_cache: Tensor) -> tuple[Tensor, Tensor]:
        """Append `(1, q, WIDTH)` to the states `(2, 1, rows, WIDTH)`; hidden, and logits as cumulated sums."""
        stop = positions.shape[1]
        layers = rows[None].expand(2, 1, rows.shape[1], WIDTH)
        past = stop - rows.shape[1]
        keys = torch.ops.aten.slice_scatter(k_cache, layers, 2, past, stop, 1)
        values = torch.ops.aten.slice_scatter(v_cache, layers, 2, past, stop, 1)
        k_cache.copy_(keys)
        v_cache.copy_(values)
        total = keys[0, :, :stop].float().sum(1)
        return rows, total.sum(-1, keepdim=True).expand(1, VOCABULARY).to(HALF)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, k_cache: Tensor, v_cache: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = torch.nn.functional.embedding(input_ids, self.table)
        return self.cache(rows, position_ids, k_cache, v_cache)


class Prefill(Main):
    def forward(  # the contract's inputs
        self,
        input_ids: Tensor,
        mm_embeds: Tensor,
        mm_mask: Tensor,
        position_ids: Tensor,
        mask_sliding: Tensor,
        mask_global: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
    ) -> tuple[Tensor, Tensor]:
        rows = torch.nn.functional.embedding(input_ids, self.table)
        attended = (mask_sliding & mask_global).float().sum(-1)[..., None].to(HALF)
        rows = torch.where(mm_mask[..., None], mm_embeds, rows) + attended
        return self.cache(rows, position_ids, k_cache, v_cache)


class Vision(torch.nn.Module):
    def forward(self, pixel_values: Tensor, image_position_ids: Tensor) -> Tensor:
        return pixel_values[..., :WIDTH] + image_position_ids.sum(-1, keepdim=True).to(torch.float16)


class Audio(torch.nn.Module):
    def forward(self, input_features: Tensor) -> Tensor:
        return input_features[..., :WIDTH] * 2


def build_toy_asset(path: Path) -> None:
    q, t, rows, p = (
        torch.export.Dim(name, min=low, max=4096) for name, low in (("q", 1), ("t", 2), ("r", 3), ("p", 1))
    )
    ids = {"input_ids": torch.zeros(1, 5, dtype=torch.int32)}
    ramp = {"position_ids": torch.arange(7, dtype=torch.int32)[None]}
    states = {name: torch.zeros(2, 1, 16, WIDTH, dtype=HALF) for name in ("k_cache", "v_cache")}
    multimodal = {
        "mm_embeds": torch.zeros(1, 5, WIDTH, dtype=HALF),
        "mm_mask": torch.zeros(1, 5, dtype=torch.bool),
        **ramp,
        "mask_sliding": torch.zeros(1, 5, 7, dtype=torch.bool),
        "mask_global": torch.ones(1, 5, 7, dtype=torch.bool),
    }
    open_axes = {
        "input_ids": {1: q},
        "mm_embeds": {1: q},
        "mm_mask": {1: q},
        "position_ids": {1: t},
        "mask_sliding": {1: q, 2: t},
        "mask_global": {1: q, 2: t},
        "k_cache": {2: rows},
        "v_cache": {2: rows},
        "pixel_values": {1: p},
        "image_position_ids": {1: p},
        "input_features": {1: p},
    }
    pixels = {
        "pixel_values": torch.zeros(1, 5, 6912, dtype=torch.float16),
        "image_position_ids": torch.zeros(1, 5, 2, dtype=torch.int32),
    }
    functions = (
        ("main", Main(), {**ids, **ramp, **states}, ("hidden", "logits")),
        ("prefill_multimodal", Prefill(), {**ids, **multimodal, **states}, ("hidden", "logits")),
        ("embed_vision", Vision(), pixels, ("embeds",)),
        ("embed_audio", Audio(), {"input_features": torch.zeros(1, 5, 640)}, ("embeds",)),
    )
    plans = [
        ExportPlan(
            name=name,
            module=module,
            example=example,
            dynamic={argument: open_axes[argument] for argument in example},
            outputs=outputs,
            states=tuple(argument for argument in example if argument in states),
        )
        for name, module, example, outputs in functions
    ]
    with torch.no_grad():
        save_asset(plans, path)
