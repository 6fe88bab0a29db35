"""What a chat template renders: conversations with tools, reasoning and media that nobody opens, tools and options."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from gemma4_mm.testing.strategies.texts import json_values, texts


@st.composite
def template_conversations(draw: st.DrawFn, *extra: str, media: bool = True) -> list[dict[str, Any]]:
    """Conversations for the chat template: system or developer text, user parts, reasoning, tool calls and results.

    Args:
        draw: supplied by Hypothesis.
        extra: further pieces of the texts; see `texts`.
        media: whether parts may be images, audios and videos; see `media_references`.
    """
    text = texts(*extra, max_pieces=4)
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        role = draw(st.sampled_from(["system", "developer"]))
        messages.append({"role": role, "content": draw(_contents(text, media=False))})
    for is_user in draw(st.lists(st.booleans(), max_size=4)):
        if is_user:
            messages.append({"role": "user", "content": draw(_contents(text, media=media)), "name": None})
        else:
            messages.extend(draw(_assistant_turn(text, media=media)))
    return messages or [{"role": "user", "content": draw(text)}]


def tool_lists(*extra: str) -> st.SearchStrategy[list[dict[str, Any]] | None]:
    """Up to two tools, or None; see `tools`."""
    return st.one_of(st.none(), st.lists(tools(*extra), max_size=2))


def tools(*extra: str) -> st.SearchStrategy[dict[str, Any]]:
    """JSON schemas of functions, as people pass them to `tools`. `extra` are further pieces of the texts."""
    text = texts(*extra, max_pieces=3)
    parameters = st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("ab"), _schemas(text), max_size=2)},
        optional={"required": st.just(["a"])},
    )
    function = st.fixed_dictionaries(
        {"name": st.sampled_from(["weather", "search"]), "description": text},
        optional={
            "parameters": parameters,
            "response": st.fixed_dictionaries({"type": st.just("object")}, optional={"description": text}),
        },
    )
    return st.fixed_dictionaries({"type": st.just("function"), "function": function})


def template_options() -> st.SearchStrategy[dict[str, Any]]:
    """Keyword arguments of `apply_chat_template` that reach the template; the two that exclude each other included."""
    return st.fixed_dictionaries(
        {},
        optional={
            "add_generation_prompt": st.booleans(),
            "continue_final_message": st.sampled_from([False, False, True, "content", "reasoning_content", "thinking"]),
            "enable_thinking": st.booleans(),
            "preserve_thinking": st.booleans(),
            "bos_token": st.just("<other>"),
        },
    )


def media_references() -> st.SearchStrategy[dict[str, Any]]:
    """Parts with an image, audio or video, in every form that the reference collects, to files that do not exist."""
    image = st.builds(lambda: np.zeros((2, 2, 3), np.uint8))
    audio = st.builds(lambda: np.zeros(700, np.float32))
    return st.one_of(
        st.fixed_dictionaries({"type": st.just("image"), "image": image}),
        st.sampled_from(["url", "path", "base64"]).map(lambda key: {"type": "image", key: "cat.png"}),
        st.sampled_from([{"url": "u.png", "detail": "low"}, "v.png"]).map(
            lambda value: {"type": "image_url", "image_url": value}
        ),
        st.fixed_dictionaries({"type": st.just("audio"), "audio": audio}),
        st.sampled_from(["video", "url", "path"]).map(lambda key: {"type": "video", key: "clip.mp4"}),
    )


def _arguments(text: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(["b", "a", "city", "n"]), json_values(text), max_size=3)


def _text_part(text: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just("text"), "text": text})


def _contents(text: st.SearchStrategy[str], *, media: bool) -> st.SearchStrategy[Any]:
    part = st.one_of(_text_part(text), media_references()) if media else _text_part(text)
    return st.one_of(text, st.lists(part, max_size=4))


@st.composite
def _assistant_turn(draw: st.DrawFn, text: st.SearchStrategy[str], *, media: bool) -> list[dict[str, Any]]:
    """A message of the model, perhaps with reasoning and tool calls, and the results of those."""
    message: dict[str, Any] = {"role": "assistant"}
    if draw(st.booleans()):
        message["content"] = draw(st.one_of(_contents(text, media=False), st.none()))
    if draw(st.booleans()):
        message[draw(st.sampled_from(["reasoning_content", "reasoning", "thinking"]))] = draw(text)
    if not draw(st.booleans()):
        return [message]
    names = draw(st.lists(st.sampled_from(["weather", "search", "añadir"]), min_size=1, max_size=2))
    message["tool_calls"] = [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": draw(_arguments(text))}}
        for index, name in enumerate(names)
    ]
    if draw(st.booleans()):
        message["tool_responses"] = [{"name": name, "response": draw(_arguments(text))} for name in names]
        return [message]
    results = []
    for index in range(draw(st.integers(0, 2))):
        result: dict[str, Any] = {"role": "tool", "tool_call_id": f"call_{index}"}
        if draw(st.booleans()):
            result["name"] = "named"
        if draw(st.booleans()):
            result["content"] = draw(st.one_of(_contents(text, media=media), st.none()))
        results.append(result)
    return [message, *results]


def _schemas(text: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    leaf = st.one_of(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["string", "number", "integer", "boolean"])},
            optional={"description": text, "enum": st.lists(text, min_size=1, max_size=3), "nullable": st.booleans()},
        ),
        st.just({"type": ["string", "null"]}),
    )
    names = st.sampled_from(["place", "unit", "description", "n"])

    def extend(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        properties = st.dictionaries(names, inner, max_size=3)
        return st.one_of(
            st.fixed_dictionaries({"type": st.just("array")}, optional={"items": inner, "description": text}),
            st.fixed_dictionaries(
                {"type": st.just("object"), "properties": properties},
                optional={"required": st.lists(names, max_size=2), "nullable": st.booleans()},
            ),
        )

    return st.recursive(leaf, extend, max_leaves=5)
