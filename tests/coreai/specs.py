"""Function specs written by hand, in the shape of the tiny bundle's and of the documented one's."""

from typing import Any

import ml_dtypes
import numpy as np

from gemma4_mm.coreai.bundle.specs import FunctionSpec, TensorSpec

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def tensors(**shapes: tuple[tuple[int | None, ...], Any]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(name=name, shape=shape, dtype=np.dtype(dtype)) for name, (shape, dtype) in shapes.items()}


def prefill(*, floats: Any = np.float32, hidden: int = 4, mask_rank: int = 4) -> FunctionSpec:
    mask = ((1,) * (mask_rank - 2) + (None, None), np.bool_)
    memory = ((2, 1, 2, 16, 4), floats)
    return FunctionSpec(
        name="prefill_multimodal",
        inputs=tensors(
            input_ids=((1, None), np.int32),
            mm_embeds=((1, None, hidden), floats),
            mm_mask=((1, None), np.bool_),
            position_ids=((1, None), np.int32),
            mask_sliding=mask,
            mask_global=mask,
        ),
        outputs=tensors(logits=((1, None, 50), floats)),
        states=tensors(keyCache=memory, valueCache=memory),
    )


def vision(*, floats: Any = np.float32, width: int = 6912) -> FunctionSpec:
    return FunctionSpec(
        name="embed_vision",
        inputs=tensors(pixel_values=((1, None, width), floats), image_position_ids=((1, None, 2), np.int32)),
        outputs=tensors(embeds=((1, None, 4), floats)),
    )
