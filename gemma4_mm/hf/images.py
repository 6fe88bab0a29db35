"""The pixel work of a call on images, from what callers give to what transformers returns."""

from collections.abc import Sequence
from typing import Any

from gemma4_mm.execution import Execution
from gemma4_mm.hf.pixels import encode_images, plan_sizes
from gemma4_mm.hf.rule import PixelRule
from gemma4_mm.hf.sources import image_rows, is_channels_first


def preprocess_images(
    images: Sequence[Any], *, rule: PixelRule, execution: Execution, input_data_format: Any = None
) -> dict[str, Any] | None:
    """The pixel work of a call on a flat list; None if it is left to transformers."""
    sources = []
    for image in images:
        source = image_rows(image, input_data_format=input_data_format)
        if source is None or (execution.kernel == "numpy" and is_channels_first(source)):
            return None
        sources.append(source)
    grids = plan_sizes(
        [(source.height_px, source.width_px) for source in sources], max_soft_tokens=rule.max_soft_tokens
    )
    if not sources or grids is None:
        return None
    patches = encode_images(sources, grids, rule=rule, execution=execution)
    return {
        "pixel_values": patches.values,
        "image_position_ids": patches.positions,
        "num_soft_tokens_per_image": [grid.n_tokens for grid in grids],
    }
