"""The other sides: Hugging Face's processors, and torchvision's bare resize as the floor beneath them."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.assets.find import Assets, fetch_assets
from gemma4_mm.core.vision.geometry import plan_image


def hf_images(images: Sequence[NDArray[np.uint8]]) -> Any:
    """Tensors of one call of HF's image processor."""
    return _image_processor()(list(images), return_tensors="pt")


def hf_video(frames: NDArray[np.uint8]) -> Any:
    """Tensors of one call of HF's video processor."""
    return _video_processor()(frames, do_sample_frames=False, return_tensors="pt")


def hf_conversation(messages: list[dict[str, Any]]) -> Any:
    """Tensors of one conversation."""
    return hf_processor().apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )


@cache
def hf_processor() -> Any:
    """HF's whole processor over the published tokenizer and template."""
    from transformers.models.gemma.tokenization_gemma import GemmaTokenizer
    from transformers.models.gemma4_unified import Gemma4UnifiedAudioFeatureExtractor, Gemma4UnifiedProcessor

    return Gemma4UnifiedProcessor(
        feature_extractor=Gemma4UnifiedAudioFeatureExtractor(),
        image_processor=_image_processor(),
        tokenizer=GemmaTokenizer.from_pretrained(assets().tokenizer.parent),
        video_processor=_video_processor(),
        chat_template=assets().read_chat_template(),
    )


@cache
def assets() -> Assets:
    """Tokenizer, template and configuration, from the cache or fetched there."""
    return fetch_assets()


def bare_resize(images: Sequence[NDArray[np.uint8]], *, max_soft_tokens: int) -> Callable[[], object]:
    """Torchvision's resize of images that are tensors already, and nothing else: no rescale, no patches.

    The tensors are uint8 with channels last in memory, the layout for which torch's kernel is quickest.
    """
    import torch
    from torchvision.transforms.v2 import functional  # type: ignore[import-untyped]

    jobs = []
    for image in images:
        grid = plan_image(height_px=image.shape[-3], width_px=image.shape[-2], max_soft_tokens=max_soft_tokens)
        tensor = torch.from_numpy(image).movedim(-1, -3)
        jobs.append((tensor, [grid.height_px, grid.width_px]))
    bicubic = functional.InterpolationMode.BICUBIC
    return lambda: [functional.resize(tensor, size, interpolation=bicubic, antialias=True) for tensor, size in jobs]


@cache
def _image_processor() -> Any:
    from transformers.models.gemma4_unified.image_processing_gemma4_unified import Gemma4UnifiedImageProcessor

    return Gemma4UnifiedImageProcessor()


@cache
def _video_processor() -> Any:
    from transformers.models.gemma4_unified.video_processing_gemma4_unified import Gemma4UnifiedVideoProcessor

    return Gemma4UnifiedVideoProcessor()
