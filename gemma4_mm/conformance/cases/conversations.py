"""Conversations: turns, tools, thinking and media, as messages and as the tensors that they become."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance import patterns
from gemma4_mm.conformance.records import Case

TOOLS: Final = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Current weather of a place",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "A town"}, "days": {"type": "integer"}},
                "required": ["place"],
            },
        },
    }
]
_ASK: Final[dict[str, Any]] = {"add_generation_prompt": True}


def conversation_cases() -> Iterator[Case]:
    """All conversation cases."""
    yield from _texts()
    yield from _tools()
    yield from _media()
    yield from _pitfalls()


def conversation_case(
    name: str,
    messages: Any,
    summary: str,
    *,
    media: Mapping[str, NDArray[Any]] | None = None,
    pitfall: str | None = None,
    since: str | None = None,
    **arguments: Any,
) -> Case:
    """One conversation case; `arguments` are those of `apply_chat_template`, `since` the release that brought one."""
    return Case(
        name=name,
        kind="conversation",
        inputs=media or {},
        options={"messages": messages, "arguments": arguments} | ({} if since is None else {"since": since}),
        pitfall=pitfall,
        summary=summary,
    )


def user(*parts: Any) -> dict[str, Any]:
    """A user turn of strings and media parts."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": "user", "content": content}


def medium(kind: str, name: str) -> dict[str, Any]:
    """A media part that stands for the case's input `name`."""
    return {"type": kind, kind: {"$input": name}}


def _texts() -> Iterator[Case]:
    plain = [{"role": "user", "content": "Why is the sky blue?"}]
    yield conversation_case("talk-one-turn", plain, "One question.", **_ASK)
    yield conversation_case("talk-no-generation-prompt", plain, "One question, without the model's turn.")
    yield conversation_case("talk-thinking", plain, "Thinking switched on.", **_ASK, enable_thinking=True)
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  What is 2 + 2?  "},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": [{"type": "text", "text": " And "}, {"type": "text", "text": " 3 + 3?\n"}]},
    ]
    yield conversation_case("talk-turns", turns, "A system turn and three more; texts are trimmed.", **_ASK)
    yield conversation_case(
        "talk-developer", [{"role": "developer", "content": "Rhyme."}, *plain], "A developer turn.", **_ASK
    )
    yield conversation_case(
        "talk-unicode",
        [user("línea\ndos — 数は 12 345 です 🙂🙃\t\u00a0a\u0301 ﬁ")],
        "Scripts, emoji, odd spaces.",
        **_ASK,
    )
    yield conversation_case("talk-empty", [{"role": "user", "content": ""}], "An empty question.", **_ASK)
    yield conversation_case(
        "talk-continued",
        [*plain, {"role": "assistant", "content": "Because"}],
        "The model goes on with its own words.",
        continue_final_message=True,
    )
    yield conversation_case(
        "talk-batch",
        [plain, [user("A longer question, so that the rows of the batch differ in length.")]],
        "Two conversations, the first padded on the left.",
        **_ASK,
    )


def _tools() -> Iterator[Case]:
    question = {"role": "user", "content": "Weather in Oslo?"}
    call = {"id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "Oslo"}}}
    answer = {"role": "tool", "tool_call_id": "call_0", "name": "get_weather", "content": "Rain, 4 °C"}
    asked = {"role": "assistant", "content": "", "tool_calls": [call]}
    yield conversation_case("tools-offered", [question], "A tool that may be called.", tools=TOOLS, **_ASK)
    yield conversation_case("tools-called", [question, asked], "A tool that is called.", tools=TOOLS)
    yield conversation_case("tools-answered", [question, asked, answer], "And its answer.", tools=TOOLS, **_ASK)
    yield conversation_case(
        "tools-thinking",
        [
            question,
            {**asked, "reasoning_content": "I need the weather."},
            answer,
            {"role": "assistant", "content": "Rain."},
        ],
        "Reasoning around a tool call.",
        tools=TOOLS,
        enable_thinking=True,
    )


def _media() -> Iterator[Case]:
    picture, portrait = patterns.texture(60, 90), patterns.texture(90, 40, seed=2)
    sound, clip = patterns.tone(3_000), patterns.clip(4, 30, 44)
    small: dict[str, Any] = {"max_soft_tokens": 70}
    yield conversation_case(
        "media-image",
        [user(medium("image", "a"), "What is this?")],
        "An image, then text.",
        media={"a": picture},
        **_ASK,
    )
    yield conversation_case(
        "media-text-first", [user("Look:", medium("image", "a"))], "Text, then an image.", media={"a": picture},
        **_ASK, processor_kwargs=small,
    )  # fmt: skip
    yield conversation_case(
        "media-two-images",
        [user(medium("image", "a"), medium("image", "b"), "Compare.")],
        "Two images side by side.",
        media={"a": picture, "b": portrait},
        **_ASK,
        processor_kwargs=small,
    )
    yield conversation_case(
        "media-audio", [user(medium("audio", "a"), "Say it.")], "A sound.", media={"a": sound}, **_ASK
    )
    yield conversation_case(
        "media-two-sounds",
        [user(medium("audio", "a"), medium("audio", "b"))],
        "Two sounds, the shorter one padded at its end.",
        media={"a": sound, "b": patterns.hiss(641)},
        **_ASK,
    )
    yield conversation_case(
        "media-video",
        [user(medium("video", "a"), "And then?")],
        "Two frames of a clip.",
        media={"a": clip},
        **_ASK,
        processor_kwargs={"num_frames": 2},
    )
    yield conversation_case(
        "media-mixed",
        [
            {"role": "system", "content": "Be brief."},
            user("Look:", medium("image", "a"), "and hear", medium("audio", "b")),
            {"role": "assistant", "content": "I did."},
            user(medium("video", "c"), medium("image", "d"), "Now?"),
        ],
        "Every kind of medium over two turns.",
        media={"a": picture, "b": sound, "c": clip[:2], "d": portrait},
        **_ASK,
        enable_thinking=True,
        processor_kwargs={"do_sample_frames": False, **small},
    )
    yield conversation_case(
        "media-batch",
        [[user(medium("image", "a"), "One.")], [user("A longer question, without any picture.", medium("audio", "b"))]],
        "Two rows with other media.",
        media={"a": picture, "b": sound},
        **_ASK,
        processor_kwargs=small,
    )
    yield conversation_case(
        "media-large-budget",
        [user(medium("image", "a"))],
        "An image of up to 560 soft tokens.",
        media={"a": picture},
        **_ASK,
        processor_kwargs={"max_soft_tokens": 560},
    )
    yield conversation_case(
        "media-sanitized",
        [user("a typed <|image|> and <turn|>", medium("image", "a"))],
        "Control tokens that a user typed are plain text beside a real image.",
        media={"a": picture},
        **_ASK,
        since="5.23",
        sanitize_control_tokens=True,
        processor_kwargs=small,
    )


def _pitfalls() -> Iterator[Case]:
    picture = patterns.corners(50, 70)
    small: dict[str, Any] = {"max_soft_tokens": 70}
    yield conversation_case(
        "pitfall-prefix-cache",
        [user(medium("image", "a"), "and", medium("image", "b"))],
        "Two images of one size: the same tokens, other pixels.",
        media={"a": picture, "b": np.ascontiguousarray(picture[::-1])},
        pitfall="a prefix cache is keyed on placeholder ids only, so a wrong image's state is reused (ATOM#1358)",
        **_ASK,
        processor_kwargs=small,
    )
    yield conversation_case(
        "pitfall-gemma4-processor",
        [user(medium("image", "a"), "What is this?")],
        "An image whose tokens must be as many as its rows of features.",
        media={"a": patterns.corners(96, 64)},
        pitfall='Gemma4Processor is used on the 12B model: "tokens: 31, features: 468480" (transformers#48887)',
        **_ASK,
    )
    yield conversation_case(
        "pitfall-image-ignored",
        [user("Describe", medium("image", "a"), "in one word.")],
        "An image between two texts.",
        media={"a": picture},
        pitfall="the image is silently ignored, and the answer is fluent (omlx#2259, ollama#18560)",
        **_ASK,
        processor_kwargs=small,
    )
    yield conversation_case(
        "pitfall-image-url",
        [user({"type": "image_url", "image_url": {"url": {"$data_uri": "a"}}}, "What is this?")],
        "An image in OpenAI's form, as a data: URI.",
        media={"a": picture},
        pitfall="image_url parts are silently skipped (transformers#43786)",
        **_ASK,
        processor_kwargs=small,
    )
    yield conversation_case(
        "pitfall-placeholder-without-image",
        [user("a typed <|image|>", medium("image", "a"))],
        "Two placeholders, one image: refused.",
        media={"a": picture},
        pitfall="placeholders and images are not counted, and the wrong text is replaced",
        **_ASK,
        processor_kwargs=small,
    )
