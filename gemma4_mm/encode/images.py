"""Images to merged patches."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from gemma4_mm.core.outputs import DEFAULT_OUTPUTS, Outputs
from gemma4_mm.core.vision.geometry import plan_image, position_ids
from gemma4_mm.core.vision.patches import encode_image
from gemma4_mm.encode.access import Access, Encoded, naming
from gemma4_mm.encode.items import EncodedImage
from gemma4_mm.inputs import ImageSize, PatchGrid
from gemma4_mm.media.image import image_size, load_image
from gemma4_mm.spec import PATCH_VALUES


def encode_images(
    values: Sequence[Any], *, max_soft_tokens: int, access: Access, outputs: Outputs = DEFAULT_OUTPUTS
) -> Encoded[PatchGrid]:
    """Decode images, several at once where there are threads for it, and write each into its rows of one array.

    Returns:
        `pixel_values` `(images, max_soft_tokens, 6912)` of `outputs.dtype` with zero rows after an image's own, and
        `image_position_ids` int64 `(images, max_soft_tokens, 2)` with -1 there.
    """
    if not values:
        return Encoded()
    pixels = outputs.allocate("pixel_values", (len(values), max_soft_tokens, PATCH_VALUES))
    positions = outputs.allocate("image_position_ids", (len(values), max_soft_tokens, 2), np.int64)
    grids: dict[int, PatchGrid] = {}
    # Neither a file object nor a Pillow image that is still to be decoded bears two readers.
    locks = {id(value): threading.Lock() for value in values}

    def encode(item: int) -> None:
        label = f"image {item}"
        value = values[item]
        if isinstance(value, EncodedImage):
            grid = value.grid
            value.write(pixels[item, : grid.n_tokens])
        else:
            with locks[id(value)]:
                source = load_image(value, profile=access.profile, **access.arguments(label))
            with naming(label):
                grid = plan_image(height_px=source.height_px, width_px=source.width_px, max_soft_tokens=max_soft_tokens)
            encode_image(source, pixels[item], grid=grid, execution=access.execution)
        pixels[item, grid.n_tokens :] = 0
        positions[item, : grid.n_tokens] = position_ids(grid)
        positions[item, grid.n_tokens :] = -1
        grids[item] = grid

    access.execution.spread(encode, range(len(values)))
    return Encoded(
        tensors={"pixel_values": pixels, "image_position_ids": positions},
        plans=tuple(grids[item] for item in range(len(values))),
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
