"""transformers' video processor with our pixels; decoding and sampling stay its own."""

from typing import Any, Final

from gemma4_mm.hf.execution_choice import ExecutionChoice
from gemma4_mm.hf.rule import is_plain_torch, read_rule
from gemma4_mm.hf.theirs import VIDEO_HOOKS, BatchFeature, HFVideoProcessor, named_as
from gemma4_mm.hf.trust import videos_are_equal
from gemma4_mm.hf.videos import preprocess_videos, view_channels_first

_OURS: Final = frozenset({"_prepare_input_videos", "_preprocess"})


@named_as(HFVideoProcessor)
class Gemma4UnifiedVideoProcessorFast(ExecutionChoice, HFVideoProcessor):
    """Is transformers' `Gemma4UnifiedVideoProcessor`, in every bit, and saves as it. See the image processor."""

    def _prepare_input_videos(
        self, videos: Any, do_convert_rgb: Any = None, input_data_format: Any = None, device: Any = None
    ) -> Any:
        """Leave frames where they lie: transformers copies channels-last ones twice."""
        views = None
        if device is None and is_plain_torch() and VIDEO_HOOKS.are_theirs(self, but=_OURS) and videos_are_equal():
            views = view_channels_first(videos, input_data_format=input_data_format)
        if views is not None:
            return views
        return super()._prepare_input_videos(
            videos=videos, do_convert_rgb=do_convert_rgb, input_data_format=input_data_format, device=device
        )

    def _preprocess(self, videos: Any, **kwargs: Any) -> Any:
        rule = read_rule(kwargs)
        if rule is not None and VIDEO_HOOKS.are_theirs(self, but=_OURS) and videos_are_equal():
            data = preprocess_videos(videos, rule=rule, execution=self.execution)
            if data is not None:
                return BatchFeature(data=data, tensor_type=kwargs.get("return_tensors"))
        return super()._preprocess(videos=[video.contiguous() for video in videos], **kwargs)
