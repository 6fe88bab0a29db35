"""Random wrong prompts and options of a session on the live runtime, as a program of its own.

Prints one line for each call, as `tests.coreai.fuzz` does: `typed`, `passed`, or the name of any other error.
"""

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from gemma4_mm.coreai.run.session import GenerationOptions, Session
from gemma4_mm.errors import Gemma4MMError
from gemma4_mm.inputs import ModelInputs, Segment
from tests.coreai.conversations import clip, picture, sound, user
from tests.coreai.fuzz import DTYPES, MUTATIONS, VALUES

JUNK: list[Any] = [
    *(*VALUES, [[1]], {"role": "user"}, {"role": 7, "content": "x"}, "nowhere.png", b"\x89PNG\r\n", "data:image/png,"),
    *(np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros((4, 4, 4, 4, 4), np.uint8)),
    *(np.full(700, np.nan, np.float32), np.full(9, np.inf), np.zeros(0, np.float32), np.zeros((3, 700), np.float32)),
    *(np.zeros(9, np.int16), Image.new("RGB", (1, 900)), ["a", b"b"], "<|image|>", "\ud800", "hello " * 2000),
]
KINDS = ("text", "image", "audio", "video", "image_url", "tool", None)
OPTIONS = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop_ids")
TEMPLATE = ("enable_thinking", "tools", "documents", "max_soft_tokens", "num_frames", "padding", "chat_template", "x")
Pick = Callable[[Any], Any]


def junk_part(rng: np.random.Generator, pick: Pick) -> Any:
    kind = pick(KINDS)
    part = {"type": kind, kind: pick(JUNK)}
    return part if rng.random() < 0.9 else pick(JUNK)


def junk_messages(rng: np.random.Generator, pick: Pick) -> Any:
    if rng.random() < 0.1:
        return pick(JUNK)
    turns = [user("hello")] if rng.random() < 0.5 else []
    for _ in range(int(rng.integers(1, 3))):
        content = [junk_part(rng, pick) for _ in range(int(rng.integers(1, 3)))]
        turns.append({"role": pick(("user", "user", "assistant", "system", "pilot", 3)), "content": content})
    return turns


def junk_segments(segments: list[Segment], rng: np.random.Generator) -> list[Segment]:
    place = int(rng.integers(len(segments)))
    changed = [
        {"start": segments[place].start + 1},
        {"stop": segments[place].stop + int(rng.choice([-1, 1]))},
        {"item": int(rng.choice([-1, 1, 7]))},
        {"kind": str(rng.choice(["image", "audio", "video", "text", "padding", "odour"]))},
        {"row": 1},
        {"frame": 9},
    ][int(rng.integers(6))]
    return [replace(segment, **changed) if i == place else segment for i, segment in enumerate(segments)]


def junk_inputs(valid: ModelInputs, rng: np.random.Generator, pick: Pick) -> ModelInputs:
    tensors, segments = dict(valid), list(valid.segments)
    name = pick(list(tensors))
    if rng.random() < 0.3:
        segments = junk_segments(segments, rng)
    elif rng.random() < 0.1:
        del tensors[name]
    elif rng.random() < 0.1:
        tensors[name] = tensors[name].astype(pick(DTYPES[:11]))
    else:
        tensors[name] = MUTATIONS[int(rng.integers(len(MUTATIONS)))](tensors[name], rng)
    return ModelInputs(tensors, segments=segments, profile=valid.profile)


def main(path: str, n_calls: int) -> None:
    rng = np.random.default_rng(5)
    warnings.simplefilter("ignore")

    def pick(choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    with Session.open(path) as session:
        expected = session.generate([user("hello")], GenerationOptions(max_tokens=4)).ids
        valid = session.processor.apply_chat_template(
            [user(picture(0), sound(1), clip(2))], tokenize=True, return_dict=True
        )
        for index in range(n_calls):
            fields: dict[str, Any] = {"max_tokens": 1}
            template: dict[str, Any] = {}
            messages: Any = [user("hello")]
            if index % 4 == 0:
                messages = junk_messages(rng, pick)
            elif index % 4 == 1:
                messages = junk_inputs(valid, rng, pick)
            elif index % 4 == 2:
                fields[pick(OPTIONS)] = pick([*VALUES, -1, 1.5, 10**6])
                fields["max_tokens"] = min(fields["max_tokens"], 2) if type(fields["max_tokens"]) is int else None
            else:
                template[pick(TEMPLATE)] = pick(JUNK)
            try:
                session.generate(messages, GenerationOptions(**fields), **template)
                outcome = "passed"
            except Gemma4MMError:
                outcome = "typed"
            except BaseException as error:  # noqa: BLE001 (the test reports whatever it is)
                outcome = f"{index % 4} {type(error).__name__}: {error}"
            print(outcome, flush=True)  # noqa: T201
        right = session.generate([user("hello")], GenerationOptions(max_tokens=4)).ids == expected
        print("alive" if right else "broken", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
