"""Images: opened, then each written into its rows of one array."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.geometry import fill_grid, plan_image
from gemma4_mm.core.vision.patches import encode_image
from gemma4_mm.core.vision.resize import RowSource
from gemma4_mm.encode.access import Access, naming
from gemma4_mm.encode.cached import CachedImage, KeptImage
from gemma4_mm.encode.keys import find_file, pixels_key
from gemma4_mm.execution import Execution
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.media.image import ImageSource, open_image
from gemma4_mm.media.source import is_encoded


class OpenedImage(Protocol):
    """An image of which the patch grid is known: a file, decoded pixels, a size without pixels, or a cache's entry."""

    @property
    def grid(self) -> PatchGrid:
        """Of its merged patches."""
        ...

    @property
    def is_size_only(self) -> bool:
        """Whether it can be laid out and not written."""
        ...

    def write(self, pixels: NDArray[Any]) -> None:
        """Write its patches into `pixels[:grid.n_tokens]`, each `(6912,)`."""
        ...


@dataclass(frozen=True, kw_only=True)
class SourceImage:
    """An image that is decoded when it is written."""

    grid: PatchGrid
    source: ImageSource
    execution: Execution
    lock: threading.Lock  # a Pillow image that is still to be decoded, given twice, is not safe for concurrent reads

    @property
    def is_size_only(self) -> bool:
        """Whether it has no pixels."""
        return self.source.is_size_only

    def decode(self) -> RowSource:
        """Decode its pixels; one thread at a time."""
        with self.lock:
            return self.source.decode()

    def write(self, pixels: NDArray[Any]) -> None:
        """Decode, resize, cut."""
        encode_image(self.decode(), pixels, grid=self.grid, execution=self.execution)


def open_images(values: Sequence[Any], *, max_soft_tokens: int, access: Access) -> tuple[OpenedImage, ...]:
    """Open images, in order; errors name the item.

    Raises:
        InputError: what is no image, or a size that the reference would refuse.
        MediaError: a file without a readable header.
        LimitError: over the limits.
    """
    locks = {id(value): threading.Lock() for value in values}

    def open_one(value: Any, label: str) -> OpenedImage:
        options = {"max_soft_tokens": max_soft_tokens}
        found = None
        if access.cache is not None and is_encoded(value):
            found = find_file(value, kind="image", options=options, label=label, access=access)
            if found.entry is not None:
                return CachedImage(entry=found.entry)
        source = open_image(value if found is None else found.source, label=label, access=access)
        with naming(label):
            grid = plan_image(height_px=source.height_px, width_px=source.width_px, max_soft_tokens=max_soft_tokens)
        image = SourceImage(grid=grid, source=source, execution=access.execution, lock=locks[id(value)])
        if access.cache is None or image.is_size_only:
            return image
        if found is not None:
            return KeptImage(image=image, find_key=lambda: found.key, still=found.still_holds, cache=access.cache)
        return KeptImage(
            image=image, find_key=lambda: pixels_key(image.decode(), options=options, access=access), cache=access.cache
        )

    return tuple(open_one(value, f"image {item}") for item, value in enumerate(values))


def write_images(
    images: Sequence[OpenedImage], pixels: NDArray[Any], positions: NDArray[np.int64], *, execution: Execution
) -> None:
    """Write each image into its rows, several at once where there are threads for it.

    Args:
        images: opened.
        pixels: `(images, max_soft_tokens, 6912)`; zero rows follow an image's own.
        positions: int64 `(images, max_soft_tokens, 2)`, -1 there.
        execution: threads over the images.
    """

    def write(item: int) -> None:
        images[item].write(pixels[item])
        fill_grid(images[item].grid, pixels=pixels[item], positions=positions[item])

    execution.spread(write, range(len(images)))
