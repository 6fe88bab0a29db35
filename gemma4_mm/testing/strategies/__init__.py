"""Hypothesis strategies for everything that Gemma 4's preprocessing takes; this package's own tests draw from them.

    from hypothesis import given
    from gemma4_mm.testing.strategies import conversations

    @given(conversations())
    def test_the_port_is_right(conversation): ...

Everything drawn is something that the reference accepts, unless a strategy says otherwise, and small enough to run
hundreds of examples; the arguments widen it. Needs the extra `testing`.
"""

from gemma4_mm.optional import require

require("hypothesis", extra="testing")

from gemma4_mm.testing.strategies.calls import Call, processor_calls, template_calls  # noqa: E402
from gemma4_mm.testing.strategies.conversations import conversations  # noqa: E402
from gemma4_mm.testing.strategies.images import (  # noqa: E402
    IMAGE_MODES,
    PATTERNS,
    ambiguous_arrays,
    budgets,
    images,
    in_mode,
    make_picture,
    pictures,
    sides_px,
)
from gemma4_mm.testing.strategies.masks import (  # noqa: E402
    MaskLayout,
    mask_layouts,
    padded_rows,
    token_rows,
    token_runs,
    windows,
)
from gemma4_mm.testing.strategies.templates import (  # noqa: E402
    media_references,
    template_conversations,
    template_options,
    tool_lists,
    tools,
)
from gemma4_mm.testing.strategies.texts import CONTROL_TOKENS, MEDIA_TOKENS, json_values, texts  # noqa: E402
from gemma4_mm.testing.strategies.videos import clips, decoded_videos, frame_counts  # noqa: E402
from gemma4_mm.testing.strategies.waveforms import WAVES, make_wave, sample_counts, waveforms  # noqa: E402

__all__ = [
    "CONTROL_TOKENS",
    "IMAGE_MODES",
    "MEDIA_TOKENS",
    "PATTERNS",
    "WAVES",
    "Call",
    "MaskLayout",
    "ambiguous_arrays",
    "budgets",
    "clips",
    "conversations",
    "decoded_videos",
    "frame_counts",
    "images",
    "in_mode",
    "json_values",
    "make_picture",
    "make_wave",
    "mask_layouts",
    "media_references",
    "padded_rows",
    "pictures",
    "processor_calls",
    "sample_counts",
    "sides_px",
    "template_calls",
    "template_conversations",
    "template_options",
    "texts",
    "token_rows",
    "token_runs",
    "tool_lists",
    "tools",
    "waveforms",
    "windows",
]
