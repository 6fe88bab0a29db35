"""Images to merged patches."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gemma4_mm.core.geometry import plan_image, position_ids
from gemma4_mm.core.patches import encode_image
from gemma4_mm.encode.access import Access, Encoded, naming
from gemma4_mm.inputs import ImageSize, PatchGrid
from gemma4_mm.media.image import image_size, load_image
from gemma4_mm.spec import PATCH_VALUES


def encode_images(values: Sequence[Any], *, max_soft_tokens: int, access: Access) -> Encoded[PatchGrid]:
    """Decode images, each on one thread at a time, and write each into its rows of one array.

    Returns:
        `pixel_values` float32 `(images, max_soft_tokens, 6912)` with zero rows after an image's own, and
        `image_position_ids` int64 `(images, max_soft_tokens, 2)` with -1 there.
    """
    if not values:
        return Encoded()
    pixels = np.zeros((len(values), max_soft_tokens, PATCH_VALUES), np.float32)
    positions = np.full((len(values), max_soft_tokens, 2), -1, np.int64)
    grids: list[PatchGrid | None] = [None] * len(values)

    def encode(item: int) -> None:
        label = f"image {item}"
        source = load_image(values[item], profile=access.profile, **access.arguments(label))
        with naming(label):
            grid = plan_image(height_px=source.height_px, width_px=source.width_px, max_soft_tokens=max_soft_tokens)
        encode_image(source, pixels[item], grid=grid, execution=access.execution)
        positions[item, : grid.n_tokens] = position_ids(grid)
        grids[item] = grid

    access.execution.spread(encode, range(len(values)))
    return Encoded(
        tensors={"pixel_values": pixels, "image_position_ids": positions},
        plans=tuple(grid for grid in grids if grid),
        valid_rows=(positions[..., 0] >= 0).sum(axis=1).tolist(),
    )


def measure_images(values: Sequence[Any], *, max_soft_tokens: int, access: Access) -> tuple[PatchGrid, ...]:
    """Plan images from their headers or `ImageSize` alone."""
    grids = []
    for item, value in enumerate(values):
        label = f"image {item}"
        size = (
            value
            if isinstance(value, ImageSize)
            else image_size(value, profile=access.profile, **access.arguments(label))
        )
        with naming(label):
            grids.append(plan_image(height_px=size.height_px, width_px=size.width_px, max_soft_tokens=max_soft_tokens))
    return tuple(grids)
