"""Rebinding transformers' names, so that its Auto classes give ours.

`AutoProcessor.register` does not win over names that transformers has itself, so the names in its package are rebound.
`transformers.Gemma4UnifiedProcessor` and the modules that define the classes stay as they are: objects made before are
still instances of those, and pickles still find them.
"""

from typing import Any, Final

from gemma4_mm.hf.image_processor import Gemma4UnifiedImageProcessorFast
from gemma4_mm.hf.processor import Gemma4UnifiedProcessorFast
from gemma4_mm.hf.theirs import HFImageProcessor, HFProcessor, HFVideoProcessor, package
from gemma4_mm.hf.video_processor import Gemma4UnifiedVideoProcessorFast

_CLASSES: Final[dict[str, tuple[Any, Any]]] = {
    "Gemma4UnifiedProcessor": (HFProcessor, Gemma4UnifiedProcessorFast),
    "Gemma4UnifiedImageProcessor": (HFImageProcessor, Gemma4UnifiedImageProcessorFast),
    "Gemma4UnifiedVideoProcessor": (HFVideoProcessor, Gemma4UnifiedVideoProcessorFast),
}


def register() -> None:
    """Make `AutoProcessor`, `AutoImageProcessor` and `AutoVideoProcessor` give the fast classes, in this process."""
    for name, (_, fast) in _CLASSES.items():
        setattr(package, name, fast)


def unregister() -> None:
    """Undo `register`; processors that were made meanwhile stay fast."""
    for name, (theirs, _) in _CLASSES.items():
        setattr(package, name, theirs)
