"""transformers' processor, with parts whose pixels are ours."""

import copy
from typing import Any, Final, Self

from gemma4_mm.execution import Execution
from gemma4_mm.hf.execution_choice import ExecutionChoice
from gemma4_mm.hf.image_processor import Gemma4UnifiedImageProcessorFast
from gemma4_mm.hf.theirs import HFImageProcessor, HFProcessor, HFVideoProcessor, named_as
from gemma4_mm.hf.video_processor import Gemma4UnifiedVideoProcessorFast

# Parts by the class that transformers' Auto classes give; the parts of a user's own class are left alone
_FAST_PARTS: Final = {
    HFImageProcessor: Gemma4UnifiedImageProcessorFast,
    HFVideoProcessor: Gemma4UnifiedVideoProcessorFast,
}
_PART_NAMES: Final = ("image_processor", "video_processor")


@named_as(HFProcessor)
class Gemma4UnifiedProcessorFast(HFProcessor):
    """Is transformers' `Gemma4UnifiedProcessor`, in every bit, and saves as it; see the module `gemma4_mm.hf`.

    It is made as that one is: by `from_pretrained`, from parts, or from a whole processor by `from_hf`. An image or
    video processor that is assigned to it is kept as a shallow copy of the fast class, so that the caller's own object
    stays what it is.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PART_NAMES and (fast := _FAST_PARTS.get(type(value))) is not None:
            value = copy.copy(value)
            value.__class__ = fast
        super().__setattr__(name, value)

    @classmethod
    def from_pretrained(cls, *args: Any, execution: Execution | None = None, **kwargs: Any) -> Any:
        """Load as transformers does.

        Args:
            args: as transformers'.
            execution: kernel and threads; by default numba where it works, on as many threads as torch has.
            kwargs: as transformers'.
        """
        loaded: Any = super().from_pretrained(*args, **kwargs)
        made: Any = loaded[0] if isinstance(loaded, tuple) else loaded
        made.execution = execution
        return loaded

    @classmethod
    def from_hf(cls, processor: Any, *, execution: Execution | None = None) -> Self:
        """Make a fast processor of transformers' one, which stays what it is; both share the tokenizer.

        Args:
            processor: a `Gemma4UnifiedProcessor`.
            execution: see `from_pretrained`.
        """
        fast = cls.__new__(cls)
        for name, value in vars(processor).items():
            setattr(fast, name, value)
        fast.execution = execution
        return fast

    @property
    def execution(self) -> Execution:
        """Kernel and threads of images; setting it sets those of videos, too. None is the default again."""
        chosen: Execution = self.image_processor.execution
        return chosen

    @execution.setter
    def execution(self, value: Execution | None) -> None:
        for name in _PART_NAMES:
            part = getattr(self, name, None)
            if isinstance(part, ExecutionChoice):
                part.execution = value
