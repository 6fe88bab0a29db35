"""Attention masks: layouts of text, vision blocks, audio and padding, under every rule, and their prefill plans."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.records import Case
from gemma4_mm.spec import SLIDING_WINDOW

Runs = Sequence[tuple[str, int]]
_TYPES: Final = {"text": 0, "padding": 0, "image": 1, "video": 2, "audio": 3}


def mask_cases() -> Iterator[Case]:
    """All mask cases."""
    yield from _short()
    yield from _long()
    yield from _pitfalls()


def mask_case(
    name: str,
    rows: Sequence[Runs],
    summary: str,
    *,
    sliding_window: int = SLIDING_WINDOW,
    max_chunk: int = 512,
    pitfall: str | None = None,
) -> Case:
    """One case of rows of equal length, each of runs such as `("image", 12)`; `padding` is hidden from all."""
    types, attention = (np.stack([_tokens(runs)[i] for runs in rows]) for i in range(2))
    return Case(
        name=name,
        kind="masks",
        inputs={"token_types": types, "attention_mask": attention},
        options={"sliding_window": sliding_window, "max_chunk": max_chunk},
        pitfall=pitfall,
        summary=summary,
    )


def _tokens(runs: Runs) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    lengths = [length for _, length in runs]
    types = np.repeat(np.array([_TYPES[kind] for kind, _ in runs], np.int32), lengths)
    return types, np.repeat(np.array([int(kind != "padding") for kind, _ in runs], np.int32), lengths)


def _short() -> Iterator[Case]:
    layouts: dict[str, Runs] = {
        "text": (("text", 40),),
        "image": (("text", 4), ("image", 9), ("text", 5)),
        "image-first": (("image", 12), ("text", 6)),
        "image-last": (("text", 7), ("image", 11)),
        "two-images": (("text", 2), ("image", 6), ("text", 1), ("image", 8), ("text", 3)),
        "adjacent-blocks": (("text", 2), ("image", 6), ("video", 8), ("text", 3)),
        "video": (("text", 3), ("video", 5), ("text", 4), ("video", 5), ("text", 4), ("video", 5), ("text", 2)),
        "audio": (("text", 3), ("audio", 20), ("text", 4)),
        "audio-beside-image": (("text", 2), ("image", 9), ("audio", 7), ("image", 5), ("text", 3)),
        "image-alone": (("image", 30),),
        "one-token": (("text", 1),),
    }
    for name, runs in layouts.items():
        words = ", ".join(f"{length} {kind}" for kind, length in runs)
        yield mask_case(f"masks-{name}", [runs], f"{words} tokens; window 8.", sliding_window=8, max_chunk=16)
    runs = layouts["image"]
    for window in (1, 2, 9, 18, 19):
        summary = f"A block of nine image tokens under a window of {window}."
        yield mask_case(f"masks-window-{window}", [runs], summary, sliding_window=window, max_chunk=9)
    for side in ("left", "right"):
        short = (("text", 2), ("image", 6), ("text", 3))
        padded = (("padding", 7), *short) if side == "left" else (*short, ("padding", 7))
        yield mask_case(
            f"masks-{side}-padded",
            [(("text", 5), ("image", 8), ("text", 5)), padded],
            f"Two rows, the second padded on the {side}.",
            sliding_window=7,
            max_chunk=12,
        )


def _long() -> Iterator[Case]:
    yield mask_case("masks-text-over-window", [(("text", 1300),)], "1300 text tokens: the window hides the first.")
    yield mask_case(
        "masks-model-prompt",
        [(("text", 12), ("image", 266), ("text", 40), ("audio", 75), ("text", 30), ("video", 66), ("text", 8))],
        "An image, a sound and a frame in a prompt of usual length.",
    )


def _pitfalls() -> Iterator[Case]:
    yield mask_case(
        "pitfall-mask-on-wrong-layers",
        [(("text", 6), ("image", 20), ("text", 10))],
        "A block within the window: whether full layers show it whole depends on the rule.",
        pitfall="the vision overlay is applied to the wrong layers, or dropped (sglang#32303, llama.cpp#28335)",
        sliding_window=24,
        max_chunk=30,
    )
    yield mask_case(
        "pitfall-block-over-window",
        [(("text", 30), ("image", 1120), ("text", 60))],
        "A block of 1120 tokens, longer than the window of 1024.",
        pitfall="a block over 1024 tokens loses its whole overlay (vllm#47217)",
    )
    yield mask_case(
        "pitfall-chunk-inside-block",
        [(("text", 500), ("image", 266), ("text", 100))],
        "A chunk of 512 tokens would end inside the image.",
        pitfall="a prefill chunk ends inside a vision block (mlx-engine#340, TensorRT-LLM#14134)",
    )
