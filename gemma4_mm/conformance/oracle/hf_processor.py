"""Hugging Face's processor out of the published files alone. It imports nothing of the package."""

import importlib
from pathlib import Path
from typing import Any


def build_processor(directory: Path) -> Any:
    """Transformers' `Gemma4UnifiedProcessor` with its own defaults, over `tokenizer.json` and `chat_template.jinja`."""
    from transformers.models.gemma.tokenization_gemma import GemmaTokenizer

    model = importlib.import_module("transformers.models.gemma4_unified")
    return model.Gemma4UnifiedProcessor(
        feature_extractor=model.Gemma4UnifiedAudioFeatureExtractor(),
        image_processor=model.Gemma4UnifiedImageProcessor(),
        tokenizer=GemmaTokenizer.from_pretrained(directory),
        video_processor=model.Gemma4UnifiedVideoProcessor(),
        chat_template=(directory / "chat_template.jinja").read_text(encoding="utf-8"),
    )
