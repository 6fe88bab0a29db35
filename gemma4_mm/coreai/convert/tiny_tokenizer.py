"""A tokenizer of some 500 ids made as the published one: its special tokens, its normaliser, BPE with byte fallback."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gemma4_mm.spec import (
    AUDIO_TOKEN,
    BOA_TOKEN,
    BOI_TOKEN,
    EOA_TOKEN,
    EOI_TOKEN,
    IMAGE_TOKEN,
    VIDEO_TOKEN,
    TokenIds,
)

TURN_END: Final = "<turn|>"
TOOL_RESPONSE: Final = "<|tool_response>"
_SPACE: Final = "▁"
# Every added token of the published tokenizer.json, in its order; the ids here are the positions in this tuple.
SPECIAL_TOKENS: Final = (
    *("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"),
    *("<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", TOOL_RESPONSE, "<tool_response|>", '<|"|>', "<|think|>"),
    *("<|channel>", "<channel|>", "<|turn>", TURN_END),
    *(BOI_TOKEN, BOA_TOKEN, IMAGE_TOKEN, AUDIO_TOKEN, EOI_TOKEN, EOA_TOKEN, VIDEO_TOKEN),
)
# Words of chat prompts, so that these do not fall into single characters.
_WORDS: Final = (
    *("user", "model", "system", "thought", "the", "picture", "image", "audio", "video", "what", "describe", "this"),
    *("is", "in", "of", "and", "to", "you", "are", "hello", "answer", "please", "sound", "colour", "compare", "with"),
)


def token_ids() -> TokenIds:
    """Where the tiny tokenizer has the special tokens; other ids than the published ones, on purpose."""
    ids = {text: index for index, text in enumerate(SPECIAL_TOKENS)}
    return TokenIds(
        pad=ids["<pad>"],
        eos=ids["<eos>"],
        bos=ids["<bos>"],
        boi=ids[BOI_TOKEN],
        boa=ids[BOA_TOKEN],
        image=ids[IMAGE_TOKEN],
        audio=ids[AUDIO_TOKEN],
        eoi=ids[EOI_TOKEN],
        eoa=ids[EOA_TOKEN],
        video=ids[VIDEO_TOKEN],
    )


def stop_ids() -> tuple[int, ...]:
    """Ids of `<eos>`, `<turn|>` and `<|tool_response>`, the published stop tokens in their order."""
    return tuple(SPECIAL_TOKENS.index(text) for text in ("<eos>", TURN_END, TOOL_RESPONSE))


def vocabulary_size() -> int:
    """Number of ids."""
    return len(_vocabulary())


def write_tokenizer(directory: Path, *, chat_template: str | None) -> None:
    """Write `tokenizer.json` and its companions.

    Args:
        directory: exists.
        chat_template: text of `chat_template.jinja`, such as the published one; None writes none.
    """
    files: dict[str, Any] = {
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": _tokenizer_config(),
        "processor_config.json": _processor_config(),
        "generation_config.json": _generation_config(),
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, ensure_ascii=False, indent=2), "utf-8")
    if chat_template is not None:
        (directory / "chat_template.jinja").write_text(chat_template, "utf-8")


def _tokenizer() -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": text, **flags} for index, text in enumerate(SPECIAL_TOKENS)],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": _vocabulary(),
            "merges": [list(pair) for pair in _merges()],
        },
    }


def _vocabulary() -> dict[str, int]:
    pieces = [*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [_SPACE, "\n", *(chr(code) for code in range(ord("!"), ord("~") + 1))]
    pieces += [left + right for left, right in _merges()]
    return {piece: index for index, piece in enumerate(pieces)}


def _merges() -> Iterator[tuple[str, str]]:
    """Build each word from left to right, then with a space before it; each piece once."""
    seen: set[str] = set()
    for word in _WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in seen:
                seen.add(word[:end])
                yield word[: end - 1], word[end - 1]
        yield _SPACE, word


def _tokenizer_config() -> dict[str, Any]:
    return {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
        "image_token": IMAGE_TOKEN,
        "boi_token": BOI_TOKEN,
        "eoi_token": EOI_TOKEN,
        "audio_token": AUDIO_TOKEN,
        "boa_token": BOA_TOKEN,
        "eoa_token": EOA_TOKEN,
        "eot_token": TURN_END,
        "extra_special_tokens": [VIDEO_TOKEN],
        "padding_side": "left",
        "tokenizer_class": "GemmaTokenizer",
        "processor_class": "Gemma4UnifiedProcessor",
    }


def _processor_config() -> dict[str, Any]:
    """Smallest budgets, so that prompts with several items fit a small context."""
    return {
        "processor_class": "Gemma4UnifiedProcessor",
        "image_seq_length": 70,
        "feature_extractor": {"feature_extractor_type": "Gemma4UnifiedAudioFeatureExtractor"},
        "image_processor": {"image_processor_type": "Gemma4UnifiedImageProcessor", "max_soft_tokens": 70},
        "video_processor": {
            "video_processor_type": "Gemma4UnifiedVideoProcessor",
            "max_soft_tokens": 70,
            "num_frames": 3,
        },
    }


def _generation_config() -> dict[str, Any]:
    ids = token_ids()
    return {
        "bos_token_id": ids.bos,
        "eos_token_id": list(stop_ids()),
        "pad_token_id": ids.pad,
        "suppress_tokens": [ids.eoa, ids.eoi],
    }
