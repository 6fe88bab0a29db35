"""Gemma 4 12B's multimodal preprocessing, bit-identical to Hugging Face's `Gemma4UnifiedProcessor`, without torch."""

from gemma4_mm.cache import MediaCache
from gemma4_mm.core.attention.masks import build_masks, describe_masks
from gemma4_mm.core.prefill.chunks import plan_chunks
from gemma4_mm.encode.audio import AudioStream
from gemma4_mm.encode.videos import EncodedFrame, VideoStream
from gemma4_mm.errors import (
    AssetError,
    Gemma4MMError,
    InputError,
    InvariantError,
    LimitError,
    MediaError,
    MissingDependencyError,
)
from gemma4_mm.execution import Execution
from gemma4_mm.inputs import AudioLength, ImageSize, ModelInputs, PatchGrid, Segment, VideoSize
from gemma4_mm.layout import Plan
from gemma4_mm.limits import Limits
from gemma4_mm.processor import Processor
from gemma4_mm.releases import Profile
from gemma4_mm.spec import TokenIds
from gemma4_mm.version import __version__

__all__ = [
    "AssetError",
    "AudioLength",
    "AudioStream",
    "EncodedFrame",
    "Execution",
    "Gemma4MMError",
    "ImageSize",
    "InputError",
    "InvariantError",
    "LimitError",
    "Limits",
    "MediaCache",
    "MediaError",
    "MissingDependencyError",
    "ModelInputs",
    "PatchGrid",
    "Plan",
    "Processor",
    "Profile",
    "Segment",
    "TokenIds",
    "VideoSize",
    "VideoStream",
    "__version__",
    "build_masks",
    "describe_masks",
    "plan_chunks",
]
