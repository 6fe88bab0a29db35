"""Random cases of every kind, made from a seed: case 17 of seed 5 is the same everywhere, however many are made."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from gemma4_mm.conformance import patterns
from gemma4_mm.conformance.cases.audio import audio_case
from gemma4_mm.conformance.cases.conversations import TOOLS, conversation_case, medium, user
from gemma4_mm.conformance.cases.images import image_case
from gemma4_mm.conformance.cases.masks import Runs, mask_case
from gemma4_mm.conformance.cases.videos import video_case
from gemma4_mm.conformance.records import Case, CaseKind
from gemma4_mm.errors import InputError

Choice = TypeVar("Choice")
# Images are what differs most, so they come most often.
_KINDS: Final[tuple[CaseKind, ...]] = (
    "image",
    "conversation",
    "image",
    "masks",
    "audio",
    "image",
    "video",
    "conversation",
)
_WORDS: Final = (
    "What is this?",
    "  padded  ",
    "línea\ndos",
    "数は 12 345 です",
    "🙂🙃",
    "a\t\tb",
    "",
    "x = <y>",
    "No.",
)


class Dice:
    """Whole numbers from a counter that is hashed: portable, unlike a library's generator."""

    def __init__(self, seed: int, index: int) -> None:
        start = int(patterns.hash32(np.array([index]), seed=seed)[0])
        self._state = start

    def number(self, least: int, most: int) -> int:
        """A whole number from `least` to `most`, both included."""
        self._state = (self._state + 0x9E3779B9) & 0xFFFFFFFF
        return least + int(patterns.hash32(np.array([self._state]))[0]) % (most - least + 1)

    def side(self, most: int) -> int:
        """A length whose order of magnitude is random, so that small ones are as likely as large ones."""
        return self.number(1, max(most >> self.number(0, most.bit_length() - 1), 1))

    def one_of(self, options: Sequence[Choice]) -> Choice:
        """One of them."""
        return options[self.number(0, len(options) - 1)]

    def chance(self, percent: int) -> bool:
        """True in so many of a hundred cases."""
        return self.number(1, 100) <= percent


def random_cases(n_cases: int, *, seed: int) -> Iterator[Case]:
    """`random_case` of the indices from 0 on."""
    return (random_case(seed, index) for index in range(n_cases))


def random_case(seed: int, index: int) -> Case:
    """Make one random case, named `random-KIND-SEED-INDEX`; kinds take turns.

    Raises:
        InputError: a negative seed or index.
    """
    if seed < 0 or index < 0:
        raise InputError(f"seed {seed}, index {index}: both must be whole numbers of at least 0")
    kind = _KINDS[index % len(_KINDS)]
    return _MAKERS[kind](f"random-{kind}-{seed}-{index}", Dice(seed, index))


def _pixels(dice: Dice, height_px: int, width_px: int, channels: int = 3) -> Any:
    seed = dice.number(0, 1 << 16)
    kind = dice.number(0, 5)
    if channels != 3 or kind == 0:
        return patterns.noise(height_px, width_px, channels, seed=seed)
    if kind == 1:
        return patterns.checkerboard(height_px, width_px, cell_px=dice.number(1, 5))
    if kind == 2:
        return patterns.letters(height_px, width_px, seed=seed)
    if kind == 3:
        return patterns.gradient(height_px, width_px)
    if kind == 4:
        return patterns.noise(height_px, width_px, 3, seed=seed) // 128 * 255  # all contrast
    return patterns.texture(height_px, width_px, seed=seed % 100)


def _image(name: str, dice: Dice) -> Case:
    height, width = dice.side(800), dice.side(800)
    options: dict[str, Any] = {"max_soft_tokens": dice.one_of((70, 70, 140, 140, 280, 560, 1120))}
    form = dice.one_of(("RGB", "RGB", "RGB", "L", "LA", "RGBA", "P", "array", "file"))
    if form == "P":
        n_colours = dice.number(1, 256)
        indices = (patterns.noise(height, width, seed=dice.number(0, 99)).astype(np.int64) % n_colours).astype(np.uint8)
        inputs = {"palette": patterns.noise(n_colours, 3, seed=dice.number(0, 99))}
        if dice.chance(50):
            options["transparency"] = dice.number(0, n_colours - 1)
        return image_case(
            name, indices, f"{width}×{height} px of {n_colours} colours.", inputs=inputs, mode="P", **options
        )
    channels = {"L": 1, "LA": 2, "RGBA": 4}.get(form, 3)
    pixels = _pixels(dice, height, width, channels)
    if form == "file":
        options |= {"given_as": "file", "exif_orientation": dice.number(1, 8)}
    elif form == "array":
        options["given_as"] = "array"
    else:
        options["mode"] = form
    summary = f"{width}×{height} px, {form}, at {options['max_soft_tokens']} soft tokens."
    return image_case(name, pixels[..., 0] if form == "L" else pixels, summary, **options)


def _video(name: str, dice: Dice) -> Case:
    total = dice.number(1, 12)
    frames = np.stack([_pixels(dice, *size) for size in [(dice.side(200) + 4, dice.side(200) + 4)] * total])
    options: dict[str, Any] = {"num_frames": dice.number(1, 5), "max_soft_tokens": dice.one_of((70, 70, 70, 140))}
    if dice.chance(80):
        options["fps"] = dice.number(1, 6000) / 100
    summary = f"{options['num_frames']} of {total} frames; more than there are is refused."
    return video_case(name, frames, summary, **options)


def _audio(name: str, dice: Dice) -> Case:
    n_samples = dice.number(1, 20_000)
    seed = dice.number(0, 1 << 16)
    if dice.chance(30):
        rate_hz, channels = dice.one_of((8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000)), dice.number(1, 3)
        samples = patterns.hiss(n_samples * channels, seed=seed).reshape(-1, channels)
        subtype = dice.one_of(("FLOAT", "PCM_16"))
        summary = f"A WAV of {channels} channel(s) at {rate_hz} Hz."
        return audio_case(name, samples, summary, given_as="file", rate_hz=rate_hz, subtype=subtype)
    options: dict[str, Any] = {"max_length": dice.number(1, 30)} if dice.chance(15) else {}
    return audio_case(name, patterns.hiss(n_samples, seed=seed), f"{n_samples} samples.", **options)


def _masks(name: str, dice: Dice) -> Case:
    kinds = ("text", "image", "text", "video", "text", "audio", "image")
    rows: list[Runs] = [
        [(dice.one_of(kinds), dice.number(1, 40)) for _ in range(dice.number(1, 8))] for _ in range(dice.number(1, 3))
    ]
    length = max(sum(n for _, n in runs) for runs in rows)
    padded: list[Runs] = []
    for runs in rows:
        missing = length - sum(n for _, n in runs)
        padding = [("padding", missing)] if missing else []
        padded.append([*padding, *runs] if dice.chance(70) else [*runs, *padding])
    window, max_chunk = dice.side(400), dice.number(1, 120)
    summary = f"{len(rows)} row(s) of {length} tokens under a window of {window}."
    return mask_case(name, padded, summary, sliding_window=window, max_chunk=max_chunk)


def _conversation(name: str, dice: Dice) -> Case:
    media: dict[str, Any] = {}
    n_frames = dice.number(1, 3)
    rows = [_turns(dice, media, n_frames=n_frames) for _ in range(dice.one_of((1, 1, 1, 2, 3)))]
    arguments: dict[str, Any] = {
        "add_generation_prompt": dice.chance(60),
        "enable_thinking": dice.chance(30),
        "processor_kwargs": {"max_soft_tokens": dice.one_of((70, 70, 140, 280)), "num_frames": n_frames},
    }
    if dice.chance(25):
        arguments["tools"] = TOOLS
    summary = f"{len(rows)} conversation(s) with {len(media)} media."
    return conversation_case(name, rows if len(rows) > 1 else rows[0], summary, media=media, **arguments)


def _turns(dice: Dice, media: dict[str, Any], *, n_frames: int) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    if dice.chance(30):
        turns.append({"role": dice.one_of(("system", "developer")), "content": dice.one_of(_WORDS)})
    for _ in range(dice.number(1, 3)):
        parts: list[Any] = []
        for _ in range(dice.number(1, 3)):
            kind = dice.one_of(("text", "text", "image", "audio", "video"))
            if kind == "text":
                parts.append(dice.one_of(_WORDS))
                continue
            key = f"medium-{len(media)}"
            if kind == "image":
                media[key] = _pixels(dice, dice.side(120) + 4, dice.side(120) + 4)
            elif kind == "audio":
                media[key] = patterns.hiss(dice.number(1, 3_000), seed=dice.number(0, 99))
            else:
                media[key] = patterns.clip(n_frames + dice.number(0, 2), dice.number(5, 40), dice.number(5, 40))
            parts.append(medium(kind, key))
        turns.append(user(*parts))
        if dice.chance(40):
            turns.append({"role": "assistant", "content": dice.one_of(_WORDS)})
    return turns


_MAKERS: Final[dict[CaseKind, Callable[[str, Dice], Case]]] = {
    "image": _image,
    "video": _video,
    "audio": _audio,
    "masks": _masks,
    "conversation": _conversation,
}
