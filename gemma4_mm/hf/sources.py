"""Images and videos as callers of transformers give them, read where they lie, by transformers' rules of channels."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.resize import ArrayRows, RowSource
from gemma4_mm.hf.rule import is_plain_tensor
from gemma4_mm.hf.theirs import image_utils
from gemma4_mm.media.image import RgbaRows
from gemma4_mm.media.pillow import UPRIGHT, PillowRows, is_pillow_image

_CHANNELS: Final = (1, 3, 4)  # that transformers' TorchvisionBackend.process_image knows
_RGBA_CHANNELS: Final = 4
# Pillow's modes that are tested against transformers; it gets the others
_PILLOW_MODES: Final = frozenset(
    {"RGB", "RGBA", "RGBX", "L", "LA", "P", "PA", "1", "I;16", "I", "F", "CMYK", "YCbCr", "HSV", "LAB"}
)


def image_rows(image: Any, *, input_data_format: Any) -> RowSource | None:
    """Give an image as rows of RGB, composed on white; None for one that is left to transformers.

    Source: transformers 5.24 `TorchvisionBackend.process_image` and `image_transforms.convert_to_rgb`.

    Args:
        image: a Pillow image, array or tensor.
        input_data_format: the caller's argument: "channels_first", "channels_last" or None.

    Raises:
        OSError: a Pillow image whose file is damaged, with Pillow's own error as in transformers.
        ValueError: axes that cannot be channels, with transformers' own error.
    """
    if is_pillow_image(image):
        return _pillow_rows(image)
    pixels = plain_array(image)
    if pixels is None or pixels.ndim not in (2, 3) or pixels.size == 0:
        return None
    if pixels.ndim == 2:
        return ArrayRows(np.broadcast_to(pixels[..., None], (*pixels.shape, 3)))
    if input_data_format is None:
        input_data_format = image_utils.infer_channel_dimension_format(pixels, num_channels=_CHANNELS)
    if input_data_format != image_utils.ChannelDimension.LAST:
        pixels = pixels.transpose(1, 2, 0)
    height_px, width_px, n_channels = pixels.shape
    if n_channels not in _CHANNELS:
        return None
    if n_channels == _RGBA_CHANNELS:
        return RgbaRows(pixels)
    return ArrayRows(np.broadcast_to(pixels, (height_px, width_px, 3)))


def is_channels_first(source: RowSource) -> bool:
    """Whether the pixels of a row are far apart in memory, as in planes; only compiled kernels read those fast."""
    if not isinstance(source, ArrayRows):
        return False
    first = source.rows(0, 1)
    return abs(first.strides[2]) > abs(first.strides[1]) > 0


def plain_array(value: Any) -> NDArray[np.uint8] | None:
    """View plain uint8 pixels in the CPU's memory; None for everything that torch would treat in another way."""
    if is_plain_tensor(value):
        view: NDArray[np.uint8] = value.numpy()
        return view
    if type(value) not in (np.ndarray, np.memmap) or value.dtype != np.uint8 or min(value.strides, default=0) < 0:
        return None  # torch refuses negative strides
    pixels: NDArray[np.uint8] = value
    return pixels


def _pillow_rows(image: Any) -> PillowRows | None:
    # Asked before decoding, as transformers does: a GIF has other bands afterwards
    has_alpha = "A" in image.getbands() or image.info.get("transparency") is not None
    image.load()
    if image.mode not in _PILLOW_MODES or image.width < 1 or image.height < 1:
        return None
    return PillowRows(image, orientation=UPRIGHT, on_white=has_alpha)
