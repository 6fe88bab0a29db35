"""transformers' image processor with our pixels."""

from typing import Any, Final

from gemma4_mm.hf.execution_choice import ExecutionChoice
from gemma4_mm.hf.images import preprocess_images
from gemma4_mm.hf.rule import read_rule
from gemma4_mm.hf.theirs import IMAGE_HOOKS, BatchFeature, HFImageProcessor, named_as
from gemma4_mm.hf.trust import images_are_equal

_OURS: Final = frozenset({"_preprocess_image_like_inputs"})


@named_as(HFImageProcessor)
class Gemma4UnifiedImageProcessorFast(ExecutionChoice, HFImageProcessor):
    """Is transformers' `Gemma4UnifiedImageProcessor`, in every bit, and saves as it.

    Calls with other than the standard arguments, media that are not plain uint8 on the CPU, subclasses with methods of
    their own and states of torch that redirect or compile run transformers' code.
    """

    def _preprocess_image_like_inputs(self, images: Any, *args: Any, **kwargs: Any) -> Any:
        rule = read_rule(kwargs)
        standard = rule is not None and kwargs.get("do_convert_rgb") is True and not args
        if rule is None or not standard or not IMAGE_HOOKS.are_theirs(self, but=_OURS) or not images_are_equal():
            return super()._preprocess_image_like_inputs(images, *args, **kwargs)
        flat = self._prepare_images_structure(images)  # files are fetched here, once
        data = preprocess_images(
            flat, rule=rule, execution=self.execution, input_data_format=kwargs.get("input_data_format")
        )
        if data is None:
            prepared = [self.process_image(image, **kwargs) for image in flat]
            return self._preprocess(prepared, **kwargs)
        return BatchFeature(data=data, tensor_type=kwargs.get("return_tensors"))
