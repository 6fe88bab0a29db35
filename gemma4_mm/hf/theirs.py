"""What is taken from torch and transformers, and the hooks that a caller may have replaced."""

import inspect
from typing import Any, Final, TypeVar

from gemma4_mm.optional import require

ClassT = TypeVar("ClassT", bound=type)

torch: Final[Any] = require("torch", extra="hf")
require("torchvision", extra="hf")  # transformers' image processor is made of it
image_utils: Final[Any] = require("transformers.image_utils", extra="hf")
BatchFeature: Final[Any] = require("transformers.image_processing_utils", extra="hf").BatchFeature
package: Final[Any] = require("transformers.models.gemma4_unified", extra="hf")

HFProcessor: Final[Any] = package.Gemma4UnifiedProcessor
HFImageProcessor: Final[Any] = package.Gemma4UnifiedImageProcessor
HFVideoProcessor: Final[Any] = package.Gemma4UnifiedVideoProcessor

# Every method between raw media and tensors; whoever replaces one gets transformers' code with it.
_SHARED_HOOKS: Final = (
    "_fuse_mean_std_and_rescale_factor",
    "_preprocess",
    "aspect_ratio_preserving_resize",
    "convert_to_rgb",
    "normalize",
    "process_image",
    "rescale",
    "rescale_and_normalize",
    "resize",
)
_IMAGE_HOOKS: Final = (*_SHARED_HOOKS, "_prepare_image_like_inputs", "_preprocess_image_like_inputs")
_VIDEO_HOOKS: Final = (*_SHARED_HOOKS, "_prepare_input_videos")


class Hooks:
    """The methods of a class of transformers as they were when this module was imported.

    Attributes:
        missing: names that this release of transformers does not have.
    """

    def __init__(self, owner: Any, names: tuple[str, ...]) -> None:
        self._owner = owner
        self._methods = {name: inspect.getattr_static(owner, name, None) for name in names}
        self.missing = [name for name, method in self._methods.items() if method is None]

    def are_theirs(self, instance: Any, *, but: frozenset[str]) -> bool:
        """Whether neither the instance, nor its class, nor transformers' class has another method.

        Args:
            instance: a processor of ours.
            but: names that our class overrides itself; these must be ours.
        """
        own = vars(instance)
        kind = type(instance)
        return all(
            name not in own
            and inspect.getattr_static(self._owner, name, None) is method
            and (name in but or inspect.getattr_static(kind, name, None) is method)
            for name, method in self._methods.items()
        )


IMAGE_HOOKS: Final = Hooks(HFImageProcessor, _IMAGE_HOOKS)
VIDEO_HOOKS: Final = Hooks(HFVideoProcessor, _VIDEO_HOOKS)


def named_as(theirs: Any) -> Any:
    """Give a class the `__name__` of transformers' class; pickle and `repr` go by `__qualname__`, which stays ours.

    transformers writes `type(self).__name__` into the files that it saves, and SGLang chooses by it.
    """

    def rename(ours: ClassT) -> ClassT:
        ours.__name__ = theirs.__name__
        return ours

    return rename
