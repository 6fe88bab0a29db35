"""Images to rows of RGB: files and Pillow images through Pillow, arrays by the reference's channel rules."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.vision.resize import ArrayRows, RowSource
from gemma4_mm.errors import InputError, MediaError
from gemma4_mm.inputs import ImageSize
from gemma4_mm.limits import Limits
from gemma4_mm.media import pillow
from gemma4_mm.media.access import DEFAULT_ACCESS, MediaAccess
from gemma4_mm.media.bounds import check_pixels
from gemma4_mm.media.source import Source, is_encoded, open_source
from gemma4_mm.releases import Profile

_RGBA_CHANNELS: Final = 4


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """An image of which the size is known, and nothing is decoded yet.

    Attributes:
        height_px: height as the model sees it, after EXIF rotation.
        width_px: width as the model sees it.
    """

    height_px: int
    width_px: int
    _decode: Callable[[], RowSource] | None

    @property
    def is_size_only(self) -> bool:
        """Whether this is an `ImageSize`, which serves plans and has no pixels."""
        return self._decode is None

    def decode(self) -> RowSource:
        """Decode it; its rows become RGB as they are read: `rows(start, stop)`, uint8 `(stop - start, width, 3)`.

        Raises:
            MediaError: the file is cut off or damaged, or changed its size meanwhile.
            InputError: a Pillow image of a mode that is not converted, or a size without pixels.
        """
        if self._decode is None:
            raise InputError("an ImageSize has no pixels; it serves plans only: give the image itself")
        return self._decode()


def open_image(value: Any, *, label: str = "image", access: MediaAccess = DEFAULT_ACCESS) -> ImageSource:
    """Find the size of one image, from its header alone; it is decoded when it is asked for.

    Files (and whatever `open_source` takes) are turned by their EXIF orientation; a Pillow image is taken as it is.
    Transparency is composited on white. An animation gives its first frame, a Pillow image its current one. Arrays are
    uint8 `(height, width)`, `(height, width, channels)` or `(channels, height, width)` with 1, 3 or 4 channels; a first
    axis of such a length wins, so a 3-pixel-tall image is read as channels first, as the reference reads it.

    Args:
        value: a path, bytes, a file object, text (see `open_source`), a Pillow image, an array, or an `ImageSize`.
        label: what errors call the item.
        access: how it may be read.

    Raises:
        MediaError: not an image, empty, or without a readable header.
        LimitError: over the limits.
        InputError: an array of another dtype or shape, or a type that is no image.
    """
    if isinstance(value, ImageSize):
        return ImageSource(height_px=value.height_px, width_px=value.width_px, _decode=None)
    if is_encoded(value):
        source = open_source(value, label=label, limits=access.limits, allow_network=access.allow_network)
        return _open_file(source, access=access)
    if (array := _as_array(value)) is not None:
        view = _channels_last(array, profile=access.profile, limits=access.limits, label=label)
        return ImageSource(height_px=view.shape[0], width_px=view.shape[1], _decode=partial(_array_rows, view))
    _check_pillow_image(value, limits=access.limits, label=label)
    decode = partial(pillow.as_rows, value, name=label, orientation=pillow.UPRIGHT, profile=access.profile)
    return ImageSource(height_px=value.height, width_px=value.width, _decode=decode)


def _open_file(source: Source, *, access: MediaAccess) -> ImageSource:
    with source.open() as file:
        image = pillow.open_image(file, name=source.name, limits=access.limits)
        applied = access.profile.string_image_exif == "applied"
        turn = pillow.header_orientation(image, file) if applied else pillow.UPRIGHT
    width_px, height_px = pillow.shown_size(image, orientation=turn)
    size = ImageSize(height_px=height_px, width_px=width_px)
    return ImageSource(height_px=height_px, width_px=width_px, _decode=partial(_decode_file, source, size, access))


def _decode_file(source: Source, size: ImageSize, access: MediaAccess) -> RowSource:
    with source.open() as file:
        image = pillow.open_image(file, name=source.name, limits=access.limits)
        pillow.decode(image, name=source.name)
    turn = pillow.orientation(image) if access.profile.string_image_exif == "applied" else pillow.UPRIGHT
    rows = pillow.as_rows(image, name=source.name, orientation=turn, profile=access.profile)
    if (rows.height_px, rows.width_px) != (size.height_px, size.width_px):
        raise MediaError(
            f"{source.name} was {size.width_px}×{size.height_px} px by its header and is {rows.width_px}×"
            f"{rows.height_px} px decoded; it changed meanwhile or is damaged; give it again"
        )
    return rows


class RgbaRows:
    """A uint8 `(height, width, 4)` array as rows of RGB on white.

    The reference computes in float32: both bytes times 1/255, colour · alpha + (1 - alpha), times 255.999, cut off. A
    result depends on one colour and one alpha byte only, so it is looked up. Source: transformers 5.24
    `TorchvisionBackend.convert_to_rgb`, torchvision 0.29 `to_dtype`.
    """

    def __init__(self, rgba: NDArray[np.uint8]) -> None:
        self._rgba = rgba
        self.height_px, self.width_px = rgba.shape[:2]

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return uint8 `(stop - start, width, 3)`."""
        strip = self._rgba[start:stop]
        rgb: NDArray[np.uint8] = _on_white_table()[strip[..., 3:], strip[..., :3]]
        return rgb


@cache
def _on_white_table() -> NDArray[np.uint8]:
    """Every colour at every alpha on white, uint8 `(alpha, colour)`."""
    levels = np.arange(256, dtype=np.float32) * np.float32(1 / 255)
    alpha = levels[:, None]
    blended = levels * alpha + (np.float32(1) - alpha)
    table: NDArray[np.uint8] = (blended * np.float32(255.999)).astype(np.uint8)
    return table


def _as_array(value: Any) -> NDArray[Any] | None:
    """Arrays, and tensors on the CPU of any library; None for everything else."""
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(value) if hasattr(value, "__array__") else None


def _channels_last(array: NDArray[Any], *, profile: Profile, limits: Limits, label: str) -> NDArray[np.uint8]:
    """View an array as `(height, width, channels)`. Source: transformers 5.24 `infer_channel_dimension_format`."""
    if array.dtype != np.uint8:
        raise InputError(
            f"{label} is an array of {array.dtype}; it must be uint8, 0 to 255 (the reference resizes floats on "
            "another path, which is not reproduced); convert it, e.g. with (array * 255).round().astype('uint8')"
        )
    converts = profile.alpha == "white"  # before that, the reference took arrays of RGB alone
    known = (1, 3, 4) if converts else (1, 3)
    view = array[None] if array.ndim == 2 else array
    if view.ndim == 3 and view.shape[0] in known:
        view = view.transpose(1, 2, 0)
    if view.ndim != 3 or view.shape[2] not in known or not (converts or view.shape[2] == 3):
        raise InputError(
            f"{label} is an array of shape {array.shape}; it must be (height, width, channels) or (channels, height, "
            f"width) with {'1, 3 or 4' if converts else '3'} channels"
        )
    height_px, width_px, _ = view.shape
    if height_px < 1 or width_px < 1:
        raise InputError(f"{label} is {width_px}×{height_px} px; each side must be at least 1 px; check the source")
    check_pixels(height_px=height_px, width_px=width_px, name=label, limits=limits)
    return view


def _array_rows(view: NDArray[np.uint8]) -> RowSource:
    if view.shape[2] == _RGBA_CHANNELS:
        return RgbaRows(view)
    return ArrayRows(np.broadcast_to(view, (*view.shape[:2], 3)))


def _check_pillow_image(value: Any, *, limits: Limits, label: str) -> None:
    if not pillow.is_pillow_image(value):
        raise InputError(
            f"{label} is {type(value).__name__}; give a path, bytes, a file object, a data: URI, base64 text, a Pillow "
            "image or a uint8 array"
        )
    if value.width < 1 or value.height < 1:
        raise InputError(f"{label} is {value.width}×{value.height} px; each side must be at least 1 px")
    check_pixels(height_px=value.height, width_px=value.width, name=label, limits=limits)
