"""The `vllm.general_plugins` entry point: our pixels in vLLM's Gemma 4 processing. `VLLM_PLUGINS` can turn it off."""

import importlib
import logging
from typing import Final

_MODEL: Final = "vllm.model_executor.models.gemma4_unified"  # holds the class by name, imported from transformers
_NAME: Final = "Gemma4UnifiedProcessor"


def register() -> None:
    """Rebind transformers' names and vLLM's; where something is missing, vLLM stays as it is, and its log says so."""
    try:
        registry = importlib.import_module("gemma4_mm.hf.registry")
        model = importlib.import_module(_MODEL)
        fast = importlib.import_module("gemma4_mm.hf.processor").Gemma4UnifiedProcessorFast
        theirs = importlib.import_module("gemma4_mm.hf.theirs").HFProcessor
    except (ImportError, AttributeError) as error:
        logging.getLogger(__name__).warning("gemma4-mm leaves vLLM's Gemma 4 processing as it is: %s", error)
        return
    registry.register()
    if getattr(model, _NAME, None) in (theirs, fast):
        setattr(model, _NAME, fast)
