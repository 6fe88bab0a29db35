"""Where a value is, in the words of its stage: pixel, patch, token, query and key, not an index."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.records import Case, Stages
from gemma4_mm.spec import MERGED_PATCH_PX

Index = tuple[int, ...]
_CHANNELS: Final = "RGB"
_CONTEXT: Final = 12  # characters shown around the first difference of a text
_TYPE_NAMES: Final = ("text", "image", "video", "audio")


def describe_place(case: Case, stage: str, index: Index, expected: Stages) -> str:
    """Say where `index` of a stage is, e.g. "pixel (row 12, column 40) channel G"."""
    words = _PLACES.get(stage)
    if words is None and stage.startswith("mask_"):
        words = _mask_place
    if words is None:
        return f"value {index[0] if len(index) == 1 else index}"
    if stage in ("patches", "pixel_values", "pixel_values_videos"):
        positions = expected.get(_POSITIONS[stage])
        if positions is not None:
            return _patch_place(index) + _patch_position(positions, index[:-1])
    if case.kind == "video" and stage == "resized_rgb":
        return f"frame {index[0]}, {_pixel_place(index[1:])}"
    return words(index)


def describe_value(stage: str, array: NDArray[Any], index: Index) -> str:
    """Write the value as its stage is read: levels, floats, `mm:ss`, "visible", a piece of text."""
    value = array[index]
    if stage == "timestamps":
        minutes, seconds = array[index[0]].tolist()
        return f"{minutes:02d}:{seconds:02d}"
    if stage == "target_size":
        height, width = array.tolist()
        return f"{width}×{height} px"
    if stage.startswith("mask_"):
        return {0: "hidden", 1: "visible"}.get(int(value), str(int(value)))
    if stage == "token_types":
        return _TYPE_NAMES[value] if 0 <= value < len(_TYPE_NAMES) else str(int(value))
    if stage == "prompt":
        text = array[max(index[0] - _CONTEXT, 0) : index[0] + _CONTEXT].astype(np.uint8).tobytes()
        return repr(text.decode("utf-8", errors="replace"))
    return f"{float(value):.9g}" if array.dtype.kind == "f" else str(int(value))


def _pixel_place(index: Index) -> str:
    row, column, channel = index
    return f"pixel (row {row}, column {column}) channel {_CHANNELS[channel]}"


def _patch_place(index: Index) -> str:
    pixel, channel = divmod(index[-1], len(_CHANNELS))
    row, column = divmod(pixel, MERGED_PATCH_PX)
    item = f"item {index[0]}, " if len(index) == 3 else ""
    return f"{item}patch {index[-2]}, its pixel (row {row}, column {column}) channel {_CHANNELS[channel]}"


def _patch_position(positions: NDArray[Any], index: Index) -> str:
    if any(place >= length for place, length in zip(index, positions.shape, strict=False)):
        return ""
    x, y = positions[index].tolist() if positions[index].ndim == 1 else (-1, -1)
    return " (a padding row)" if x < 0 else f" (patch x {x}, y {y} of the grid)"


def _position_place(index: Index) -> str:
    item = f"item {index[0]}, " if len(index) == 3 else ""
    return f"{item}patch {index[-2]}, {'xy'[index[-1]]}"


def _token_place(index: Index) -> str:
    return f"row {index[0]}, token {index[1]}"


def _mask_place(index: Index) -> str:
    return f"row {index[0]}, query {index[1]}, key {index[2]}"


def _frame_sample_place(index: Index) -> str:
    item = f"audio {index[0]}, " if len(index) == 3 else ""
    return f"{item}frame {index[-2]}, sample {index[-1]}"


_POSITIONS: Final[Mapping[str, str]] = {
    "patches": "position_ids",
    "pixel_values": "image_position_ids",
    "pixel_values_videos": "video_position_ids",
}
_PLACES: Final[Mapping[str, Callable[[Index], str]]] = {
    "source_rgb": _pixel_place,
    "resized_rgb": _pixel_place,
    "patches": _patch_place,
    "pixel_values": _patch_place,
    "pixel_values_videos": _patch_place,
    "position_ids": _position_place,
    "image_position_ids": _position_place,
    "video_position_ids": _position_place,
    "token_ids": _token_place,
    "token_types": _token_place,
    "attention_mask": _token_place,
    "frames": _frame_sample_place,
    "input_features": _frame_sample_place,
    "input_features_mask": lambda index: f"audio {index[0]}, frame {index[1]}",
    "num_frames_per_video": lambda index: f"video {index[0]}",
    "frames_mask": lambda index: f"frame {index[0]}",
    "pcm": lambda index: f"sample {index[0]}",
    "frame_indices": lambda index: f"sampled frame {index[0]}",
    "timestamps": lambda index: f"sampled frame {index[0]}",
    "target_size": lambda _: "size",
    "soft_tokens": lambda index: f"item {index[0]}",
    "prompt": lambda index: f"byte {index[0]}",
}
