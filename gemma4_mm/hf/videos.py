"""The pixel work of a call on videos, from decoded frames to what transformers returns."""

from collections.abc import Sequence
from typing import Any, Final

from gemma4_mm.execution import Execution
from gemma4_mm.hf.pixels import encode_videos, plan_sizes
from gemma4_mm.hf.rule import PixelRule, is_plain_tensor
from gemma4_mm.hf.sources import plain_array
from gemma4_mm.hf.theirs import image_utils, torch

_RGB_CHANNELS: Final = 3


def view_channels_first(videos: Sequence[Any], *, input_data_format: Any) -> list[Any] | None:
    """View RGB videos as tensors `(frames, 3, height, width)`; None if one is left to transformers.

    As in transformers, the first video decides for all whether channels come first.
    """
    views = []
    for video in videos:
        pixels = plain_array(video)
        if pixels is None or pixels.ndim != 4 or pixels.size == 0:
            return None
        if input_data_format is None:
            input_data_format = image_utils.infer_channel_dimension_format(video)
        axes = (0, 3, 1, 2) if input_data_format == image_utils.ChannelDimension.LAST else (0, 1, 2, 3)
        if pixels.shape[axes[1]] != _RGB_CHANNELS:
            return None
        tensor = video if isinstance(video, torch.Tensor) else torch.from_numpy(video)
        views.append(tensor.permute(axes))
    return views


def preprocess_videos(videos: Sequence[Any], *, rule: PixelRule, execution: Execution) -> dict[str, Any] | None:
    """The pixel work of a call on tensors `(frames, 3, height, width)`; None if it is left to transformers."""
    frames = []
    for video in videos:
        if not is_plain_tensor(video) or video.ndim != 4 or video.shape[1] != _RGB_CHANNELS or not video.numel():
            return None
        if execution.kernel == "numpy" and video.stride(1) > video.stride(3):
            return None  # planes, which numpy reads slower than torch
        frames.append(video.permute(0, 2, 3, 1).numpy())
    sizes = [video.shape[1:3] for video in frames]
    grids = plan_sizes([(height, width) for height, width in sizes], max_soft_tokens=rule.max_soft_tokens)
    if not frames or grids is None:
        return None
    patches = encode_videos(frames, grids, rule=rule, execution=execution)
    return {
        "pixel_values_videos": patches.values,
        "video_position_ids": patches.positions,
        "num_frames_per_video": [len(video) for video in frames],
        "num_soft_tokens_per_video": [grid.n_tokens for grid in grids],
    }
