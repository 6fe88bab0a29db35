"""Prompts as prepared arrays, the masks by their formula, and greedy decoding by hand through the runtime class."""

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.coreai.convert.tiny import SLIDING_WINDOW
from gemma4_mm.coreai.convert.tiny_tokenizer import SPECIAL_TOKENS, token_ids, vocabulary_size
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.coreai.run.state import KVState

IDS = token_ids()
VOCABULARY = vocabulary_size()
ORDINARY = len(SPECIAL_TOKENS)  # the first id that is no special token
TEXT, IMAGE, VIDEO, AUDIO = 0, 1, 2, 3


@dataclass
class Prompt:
    """Token ids and types, and the media in order of appearance; frames of a video are separate items."""

    ids: list[int] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    images: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = field(default_factory=list)
    frames: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = field(default_factory=list)
    audios: list[NDArray[np.float32]] = field(default_factory=list)
    frames_per_video: list[int] = field(default_factory=list)


def make_prompt(layout: str, *, seed: int) -> Prompt:
    """Build one from letters: t text, i image, v video of two frames, a audio, with random sizes and values."""
    rng = np.random.default_rng(seed)
    prompt = Prompt()
    _add(prompt, [IDS.bos], TEXT)
    for letter in layout:
        if letter == "t":
            _add(prompt, rng.integers(ORDINARY, VOCABULARY, rng.integers(3, 12)).tolist(), TEXT)
        elif letter == "i":
            item = _patches(rng, rows=int(rng.integers(4, 6)), columns=int(rng.integers(4, 7)))
            prompt.images.append(item)
            _add(prompt, [IDS.boi], TEXT)
            _add(prompt, [IDS.image] * len(item[0]), IMAGE)
            _add(prompt, [IDS.eoi], TEXT)
        elif letter == "v":
            prompt.frames_per_video.append(2)
            rows, columns = int(rng.integers(3, 5)), int(rng.integers(4, 6))
            for _ in range(2):
                item = _patches(rng, rows=rows, columns=columns)
                prompt.frames.append(item)
                _add(prompt, [*rng.integers(ORDINARY, VOCABULARY, 5).tolist(), IDS.boi], TEXT)
                _add(prompt, [IDS.video] * len(item[0]), VIDEO)
                _add(prompt, [IDS.eoi], TEXT)
        else:
            waveform = (0.1 * rng.standard_normal((int(rng.integers(1, 9)), 640))).astype(np.float32)
            prompt.audios.append(waveform)
            _add(prompt, [IDS.boa], TEXT)
            _add(prompt, [IDS.audio] * len(waveform), AUDIO)
            _add(prompt, [IDS.eoa], TEXT)
    return prompt


def masks(
    types: list[int], *, rule: str, first: int, stop: int, window: int = SLIDING_WINDOW
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(sliding, global) rows [first, stop) over columns [0, stop), by the formulas of the two rules."""
    vision = np.isin(types, (IMAGE, VIDEO))
    starts = vision & ~np.concatenate([[False], vision[:-1]])
    block_ids = np.where(vision, np.cumsum(starts), 0)
    q, k = np.arange(first, stop)[:, None], np.arange(stop)[None]
    block = (block_ids[q] == block_ids[k]) & (block_ids[q] > 0)
    causal, inside = k <= q, k > q - window
    if rule == "forward":
        return (causal & inside) | block, causal | block
    return inside & (causal | block), causal


def embed(runtime: Runtime, prompt: Prompt, *, hidden: int = 64) -> NDArray[np.float32]:
    """Soft tokens of every item, spliced to their places; zeros for text."""
    embeds = np.zeros((len(prompt.ids), hidden), np.float32)
    types = np.array(prompt.types)
    for kind, items in ((IMAGE, prompt.images), (VIDEO, prompt.frames)):
        if items:
            embeds[types == kind] = np.concatenate(
                [
                    runtime.run("embed_vision", {"pixel_values": pixels, "image_position_ids": positions})
                    for pixels, positions in items
                ]
            )
    if prompt.audios:
        embeds[types == AUDIO] = np.concatenate(
            [runtime.run("embed_audio", {"input_features": audio}) for audio in prompt.audios]
        )
    return embeds


def prefill(
    runtime: Runtime, prompt: Prompt, state: KVState, *, rule: str, cuts: tuple[int, ...] = ()
) -> NDArray[np.float32]:
    """Prefill in chunks that end at `cuts` and at the end; logits of the last token."""
    embeds = embed(runtime, prompt)
    bounds = [state.length, *cuts, len(prompt.ids)]
    logits = np.zeros(0, np.float32)
    for first, stop in itertools.pairwise(bounds):
        sliding, full = masks(prompt.types, rule=rule, first=first, stop=stop)
        logits = runtime.run(
            "prefill_multimodal",
            {
                "input_ids": prompt.ids[first:stop],
                "mm_embeds": embeds[first:stop],
                "mm_mask": np.array(prompt.types[first:stop]) != TEXT,
                "mask_sliding": sliding,
                "mask_global": full,
            },
            state=state,
        )
    return logits


def decode(
    runtime: Runtime, logits: NDArray[np.float32], state: KVState, *, n_tokens: int
) -> tuple[list[int], NDArray[np.float32]]:
    """Greedy tokens and the logits that each was chosen from, `(n_tokens, vocabulary)`."""
    rows = [logits]
    tokens = [int(logits.argmax())]
    while len(tokens) < n_tokens:
        rows.append(runtime.run("main", {"input_ids": [tokens[-1]]}, state=state))
        tokens.append(int(rows[-1].argmax()))
    return tokens, np.stack(rows)


def reference(model: Any, prompt: Prompt, *, rule: str, n_tokens: int) -> tuple[list[int], NDArray[np.float32]]:
    """The same from Hugging Face's `generate`: dynamic cache for `forward`, static cache for `static`."""
    import torch

    n = len(prompt.ids)
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor([prompt.ids]),
        "attention_mask": torch.ones(1, n, dtype=torch.long),
        "mm_token_type_ids": torch.tensor([prompt.types]),
    }
    if prompt.images:
        inputs["pixel_values"], inputs["image_position_ids"] = _padded(prompt.images)
    if prompt.frames:
        inputs["pixel_values_videos"], inputs["video_position_ids"] = _padded(prompt.frames)
        inputs["num_frames_per_video"] = torch.tensor(prompt.frames_per_video)
    if prompt.audios:
        longest = max(len(audio) for audio in prompt.audios)
        features = torch.zeros(len(prompt.audios), longest, 640)
        valid = torch.zeros(len(prompt.audios), longest, dtype=torch.bool)
        for index, audio in enumerate(prompt.audios):
            features[index, : len(audio)] = torch.from_numpy(audio)
            valid[index, : len(audio)] = True
        inputs |= {"input_features": features, "input_features_mask": valid}
    cache = {"cache_implementation": "static", "disable_compile": True} if rule == "static" else {}
    with torch.no_grad():
        output = model.generate(
            **inputs,
            **cache,
            max_new_tokens=n_tokens,
            do_sample=False,
            eos_token_id=None,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return output.sequences[0, n:].tolist(), torch.stack(output.logits)[:, 0].numpy()


def _add(prompt: Prompt, ids: list[int], kind: int) -> None:
    prompt.ids += ids
    prompt.types += [kind] * len(ids)


def _patches(rng: np.random.Generator, *, rows: int, columns: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    y, x = np.divmod(np.arange(rows * columns), columns)
    return rng.random((rows * columns, 6912), np.float32), np.stack([x, y], axis=-1)


def _padded(items: list[tuple[NDArray[np.float32], NDArray[np.int64]]]) -> tuple[Any, Any]:
    import torch

    longest = max(len(pixels) for pixels, _ in items)
    values = torch.zeros(len(items), longest, 6912)
    positions = torch.full((len(items), longest, 2), -1)
    for index, (pixels, places) in enumerate(items):
        values[index, : len(pixels)] = torch.from_numpy(pixels)
        positions[index, : len(places)] = torch.from_numpy(places)
    return values, positions
