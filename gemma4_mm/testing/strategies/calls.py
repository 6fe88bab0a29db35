"""Whole calls of a processor: what people pass to `apply_chat_template`, and to the processor itself."""

from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import strategies as st

from gemma4_mm.spec import AUDIO_TOKEN, IMAGE_TOKEN, SOFT_TOKEN_BUDGETS, VIDEO_TOKEN
from gemma4_mm.testing.strategies.conversations import conversations
from gemma4_mm.testing.strategies.images import images
from gemma4_mm.testing.strategies.templates import tools
from gemma4_mm.testing.strategies.texts import texts
from gemma4_mm.testing.strategies.videos import clips
from gemma4_mm.testing.strategies.waveforms import waveforms

_BUDGETS: Final = st.sampled_from(SOFT_TOKEN_BUDGETS[:3])  # larger ones cost time, and change the size alone


@dataclass
class Call:
    """One call of `apply_chat_template` with its arguments.

    Attributes:
        conversation: messages, or a list of such lists.
        arguments: keyword arguments beside `tokenize` and `return_dict`.
    """

    conversation: list[Any]
    arguments: dict[str, Any] = field(default_factory=dict)


@st.composite
def template_calls(draw: st.DrawFn) -> Call:
    """One conversation with media or a batch of two or three, with template and processor arguments."""
    processor: dict[str, Any] = {"max_soft_tokens": draw(_BUDGETS)}
    if draw(st.booleans()):
        n_frames = draw(st.integers(1, 3))
        processor["num_frames"] = n_frames
    else:
        n_frames = 1
        processor["do_sample_frames"] = False
    one = conversations(min_frames=n_frames)
    batch = draw(st.one_of(one, st.lists(one, min_size=2, max_size=3)))
    arguments = {
        "add_generation_prompt": draw(st.booleans()),
        "enable_thinking": draw(st.booleans()),
        "processor_kwargs": processor,
    }
    if draw(st.booleans()):
        arguments["tools"] = draw(st.lists(tools(), min_size=1, max_size=2))
    return Call(conversation=batch, arguments=arguments)


@st.composite
def processor_calls(draw: st.DrawFn) -> dict[str, Any]:
    """Keyword arguments of `processor(…)`: one to three prompts with placeholders between texts, and their media.

    Media are nested and flattened as the reference wants them: a list of images per prompt, videos and audios in order
    of appearance.
    """
    media: dict[str, list[Any]] = {"text": [], "images": [], "videos": [], "audio": []}
    for _ in range(draw(st.integers(1, 3))):
        prompt, pictures = draw(texts()), []
        for kind in draw(st.lists(st.sampled_from(["image", "video", "audio"]), max_size=3)):
            prompt += {"image": IMAGE_TOKEN, "video": VIDEO_TOKEN, "audio": AUDIO_TOKEN}[kind] + draw(texts())
            if kind == "image":
                pictures.append(draw(images()))
            elif kind == "video":
                media["videos"].append(draw(clips(min_frames=2)))
            else:
                media["audio"].append(draw(waveforms()))
        media["text"].append(prompt)
        media["images"].append(pictures)
    if not any(media["images"]):
        del media["images"]
    arguments: dict[str, Any] = {name: value for name, value in media.items() if value}
    sampling: dict[str, Any] = draw(st.sampled_from([{"num_frames": 2}, {"do_sample_frames": False}]))
    padding: dict[str, Any] = draw(
        st.sampled_from(
            [
                {},
                {"padding_side": "right"},
                {"pad_to_multiple_of": 64},
                {"text_kwargs": {"padding": "max_length", "max_length": 1500}},
                {"audio_kwargs": {"padding": "max_length", "max_length": 4}},
                {"audio_kwargs": {"max_length": 2}},
            ]
        )
    )
    return {**arguments, **sampling, **padding, "max_soft_tokens": draw(_BUDGETS)}
