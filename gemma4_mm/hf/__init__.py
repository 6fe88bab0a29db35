"""Our pixels inside Hugging Face's own processor: subclasses of transformers' `Gemma4UnifiedProcessor` and its parts.

Only the work on pixels is replaced; text, tokens, audio, saving, loading and return types stay transformers' code, so
`isinstance` checks of other projects hold and saved files name Hugging Face's classes. Every tensor has the bits that
transformers gives on the machine at hand, which is tested at the first call; see `gemma4_mm.hf.trust`.

    from gemma4_mm.hf import Gemma4UnifiedProcessorFast, register

    processor = Gemma4UnifiedProcessorFast.from_pretrained("google/gemma-4-12B-it")
    register()  # from here on AutoProcessor.from_pretrained gives this class, too

`python -m gemma4_mm.hf check` proves the equality on the installed releases. Needs the extra `hf` (transformers, torch,
torchvision); nothing else of the package imports this room.
"""

from gemma4_mm.hf.image_processor import Gemma4UnifiedImageProcessorFast
from gemma4_mm.hf.processor import Gemma4UnifiedProcessorFast
from gemma4_mm.hf.registry import register, unregister
from gemma4_mm.hf.video_processor import Gemma4UnifiedVideoProcessorFast

__all__ = [
    "Gemma4UnifiedImageProcessorFast",
    "Gemma4UnifiedProcessorFast",
    "Gemma4UnifiedVideoProcessorFast",
    "register",
    "unregister",
]
