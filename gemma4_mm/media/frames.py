"""Videos that are decoded already: arrays, and lists of frames, under the reference's channel rules."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.errors import InputError
from gemma4_mm.limits import Limits
from gemma4_mm.media import pillow
from gemma4_mm.media.bounds import check_pixels

_CHANNELS: Final = (1, 3)  # unlike images, the reference takes no frames with alpha
_FRAME_NDIM: Final = 3


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The frames of one video, not yet converted.

    Attributes:
        items: one array or Pillow image per frame.
        channels_first: whether they are `(channels, height, width)`.
        height_px: height of every frame.
        width_px: width of every frame.
        label: what errors call the video.
    """

    items: Sequence[Any]
    channels_first: bool
    height_px: int
    width_px: int
    label: str

    def __len__(self) -> int:
        return len(self.items)

    def take(self, frame_indices: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
        """Return chosen frames as RGB, uint8 `(height, width, 3)` each; arrays are viewed, not copied."""
        return (self._rgb(self.items[index]) for index in frame_indices)

    def _rgb(self, item: Any) -> NDArray[np.uint8]:
        frame = _as_array(item, label=self.label)
        if self.channels_first:
            frame = frame.transpose(1, 2, 0)
        return np.broadcast_to(frame, (self.height_px, self.width_px, 3))


def as_frames(value: Any, *, limits: Limits, label: str) -> Frames:
    """View one decoded video as frames: a 4-D array, a list of 3-D arrays or of Pillow images, or a single frame.

    Frames are uint8 `(height, width, channels)` or `(channels, height, width)` with 1 or 3 channels, and a first axis
    of such a length wins. As in the reference, a Pillow frame is taken as its bytes without conversion, so it must have
    three bands. Source: transformers 5.24 `make_batched_videos`, `infer_channel_dimension_format`.

    Raises:
        InputError: another shape or dtype, frames of several sizes, or several videos.
        LimitError: frames over `limits.max_pixels`.
    """
    items = _split(value, label=label)
    if len(items) == 0:
        raise InputError(f"{label} has no frames; give at least one")
    shapes = sorted({_shape(item) for item in items})
    if len(shapes) > 1:
        raise InputError(f"{label} has frames of several shapes, {shapes[0]} and {shapes[1]}; resize them to one")
    (shape,) = shapes
    first, last = (shape[0], shape[2]) if len(shape) == _FRAME_NDIM else (0, 0)
    if first not in _CHANNELS and last not in _CHANNELS:
        raise InputError(
            f"{label} has frames of shape {shape}; each must be (height, width, channels) or (channels, height, width) "
            "with 1 or 3 channels; convert Pillow frames with convert('RGB')"
        )
    for item in items:
        if _dtype(item) != np.uint8:
            raise InputError(
                f"{label} has frames of {_dtype(item)}; they must be uint8, 0 to 255 (the reference resizes floats on "
                "another path, which is not reproduced)"
            )
    height_px, width_px = (shape[1], shape[2]) if first in _CHANNELS else (shape[0], shape[1])
    if height_px < 1 or width_px < 1:
        raise InputError(f"{label} has frames of {width_px}×{height_px} px; each side must be at least 1 px")
    check_pixels(height_px=height_px, width_px=width_px, name=label, limits=limits)
    return Frames(items=items, channels_first=first in _CHANNELS, height_px=height_px, width_px=width_px, label=label)


def _split(value: Any, *, label: str) -> Sequence[Any]:
    if _is_array(value):
        array = np.asarray(value)
        if array.ndim == _FRAME_NDIM:
            return [array]
        if array.ndim == _FRAME_NDIM + 1:
            return list(array)
        raise InputError(f"{label} is an array of shape {array.shape}; one video is (frames, height, width, channels)")
    if isinstance(value, list | tuple):
        for item in value:
            if not (_is_array(item) and item.ndim == _FRAME_NDIM) and not pillow.is_pillow_image(item):
                raise InputError(
                    f"{label} is a list that holds a {_described(item)}; one video is a list of 3-D arrays or of "
                    "Pillow images"
                )
        return value
    if pillow.is_pillow_image(value):
        return [value]
    raise InputError(
        f"{label} is {type(value).__name__}; give a path, bytes, a file object, a data: URI, base64 text, an array or "
        "a list of frames"
    )


def _is_array(value: Any) -> bool:
    """Arrays, and tensors on the CPU of any library."""
    return isinstance(value, np.ndarray) or hasattr(value, "__array__")


def _described(item: Any) -> str:
    return f"{item.ndim}-D array" if _is_array(item) else type(item).__name__


def _shape(item: Any) -> tuple[int, ...]:
    """Shape that a frame will have as an array; a Pillow image is not decoded for it."""
    if _is_array(item):
        return tuple(item.shape)
    n_bands = len(item.getbands())
    return (item.height, item.width) if n_bands == 1 else (item.height, item.width, n_bands)


def _dtype(item: Any) -> Any:
    if isinstance(getattr(item, "dtype", None), np.dtype):
        return item.dtype
    return np.asarray(item).dtype if _is_array(item) else np.dtype(np.uint8)


def _as_array(item: Any, *, label: str) -> NDArray[np.uint8]:
    if _is_array(item):
        return np.asarray(item)
    pillow.decode(item, name=label)
    return np.asarray(item)
