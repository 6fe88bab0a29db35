"""A tiny, randomly initialised Gemma 4 12B and random prompts for it: the oracle's arithmetic without its weights."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from gemma4_mm.core.prefill.chunks import Chunk
from gemma4_mm.inputs import Segment

WINDOW = 16
IDS = {"image": 1004, "video": 1005, "audio": 1006}
TYPES = {"padding": 0, "text": 0, "image": 1, "video": 2, "audio": 3}


@cache
def tiny_model(implementation="sdpa"):
    """Six layers in the 5:1 pattern, hidden 64, window 16, special ids remapped into a vocabulary of 1024."""
    import torch
    from transformers.models.gemma4_unified import Gemma4UnifiedConfig, Gemma4UnifiedForConditionalGeneration

    torch.manual_seed(0)
    config = Gemma4UnifiedConfig(
        text_config={
            "vocab_size": 1024,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_global_key_value_heads": 1,
            "head_dim": 16,
            "global_head_dim": 32,
            "sliding_window": WINDOW,
            "attention_k_eq_v": True,
        },
        vision_config={"mm_embed_dim": 64, "output_proj_dims": 64},
        audio_config={},
        boi_token_id=1000,
        eoi_token_id=1001,
        boa_token_id=1002,
        eoa_token_index=1003,
        image_token_id=IDS["image"],
        video_token_id=IDS["video"],
        audio_token_id=IDS["audio"],
        attn_implementation=implementation,
    )
    model = Gemma4UnifiedForConditionalGeneration(config).eval().requires_grad_(False)
    assert model.config.text_config._attn_implementation == implementation
    model.generation_config.eos_token_id = None  # all runs are equally long
    return model


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One row: its segments, its tensors under Hugging Face's names, and its token types."""

    segments: tuple[Segment, ...]
    tensors: dict[str, Any] = field(repr=False)
    types: np.ndarray
    attention: np.ndarray

    @property
    def n_tokens(self) -> int:
        return self.types.shape[1]


def make_prompt(*parts, seed=0):
    """A prompt of `("text", 5)`, `("image", 22)`, … with random tokens, patches and samples; a video has one frame."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    segments, place, counts = [], 0, {"image": 0, "video": 0, "audio": 0}
    for kind, length in parts:
        item = counts.get(kind)
        frame = 0 if kind == "video" else None
        segments.append(Segment(kind=kind, row=0, start=place, stop=place + length, item=item, frame=frame))
        place += length
        if item is not None:
            counts[kind] += 1
    ids = torch.randint(3, 900, (1, place), generator=generator)
    for segment in segments:
        if segment.kind != "text":
            ids[:, segment.start : segment.stop] = IDS.get(segment.kind, 0)
    kinds = np.array([[segment.kind for segment in segments for _ in range(segment.n_tokens)]])
    types = np.vectorize(TYPES.__getitem__)(kinds)
    attention = (kinds != "padding").astype(np.int64)
    tensors = {"input_ids": ids, "attention_mask": torch.from_numpy(attention)}
    for kind, names in {
        "image": ("pixel_values", "image_position_ids"),
        "video": ("pixel_values_videos", "video_position_ids"),
    }.items():
        if counts[kind]:
            lengths = [length for part, length in parts if part == kind]
            tensors[names[0]] = torch.rand(len(lengths), max(lengths), 6912, generator=generator)
            tensors[names[1]] = torch.full((len(lengths), max(lengths), 2), -1)
            for i, length in enumerate(lengths):
                tensors[names[1]][i, :length] = torch.arange(length)[:, None]
    if counts["video"]:
        tensors["num_frames_per_video"] = torch.ones(counts["video"], dtype=torch.long)
    if counts["audio"]:
        lengths = [length for part, length in parts if part == "audio"]
        tensors["input_features"] = torch.randn(len(lengths), max(lengths), 640, generator=generator)
        tensors["input_features_mask"] = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Prompt(segments=tuple(segments), tensors=tensors, types=types, attention=attention)


def media_embeddings(model, prompt):
    """Embeddings `(tokens, hidden)` of every item, by kind and item, from the model's own two embedders."""
    tensors, found = prompt.tensors, {}
    if "pixel_values" in tensors:
        images = model.get_image_features(tensors["pixel_values"], tensors["image_position_ids"]).pooler_output
        found |= {("image", item): rows for item, rows in enumerate(images)}
    if "pixel_values_videos" in tensors:
        videos = model.get_image_features(tensors["pixel_values_videos"], tensors["video_position_ids"]).pooler_output
        found |= {("video", item): rows for item, rows in enumerate(videos)}
    if "input_features" in tensors:
        mask = tensors["input_features_mask"]
        audio = model.model.get_audio_features(tensors["input_features"], mask).pooler_output
        found |= {("audio", item): rows[valid] for item, (rows, valid) in enumerate(zip(audio, mask, strict=True))}
    return found


def chunk_embeddings(model, prompt: Prompt, chunk: Chunk, media):
    """What a runtime splices together for one chunk: text embeddings, and the media's where the chunk says so."""
    import torch

    ids = prompt.tensors["input_ids"][:, chunk.tokens]
    text = torch.where(ids >= min(IDS.values()), 0, ids)
    embeds = model.get_input_embeddings()(torch.nn.functional.pad(text, (0, chunk.padding)))
    for part in chunk.embeddings:
        embeds[:, part.tokens] = media[part.kind, part.item][part.rows]
    return embeds
