"""A randomly initialised bundle that runs in milliseconds: for tests, demos, and work on clients without the 6.4 GB."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gemma4_mm.coreai.bundle.constants import MultimodalConstants
from gemma4_mm.coreai.convert.convert import (
    EXTRA,
    ConversionOptions,
    ConversionReport,
    Weights,
    convert_config,
    random_model,
)
from gemma4_mm.coreai.convert.tiny_tokenizer import stop_ids, token_ids, vocabulary_size, write_tokenizer
from gemma4_mm.optional import require

CONTEXT_LENGTH: Final = 1024
SLIDING_WINDOW: Final = 16  # shorter than one image's block, so that the mask rules differ
_HIDDEN: Final = 64
_VIDEO_FRAMES: Final = 3


def build_tiny_bundle(
    out: Path | str,
    *,
    weights: Weights = "bfloat16",
    context_length: int = CONTEXT_LENGTH,
    chat_template: str | None = None,
    seed: int = 0,
) -> ConversionReport:
    """Build the bundle, in under a minute on two cores. Its answers are noise, its arithmetic is the model's.

    The weights are those of `tiny_model(seed=seed)`, which Hugging Face runs too: bfloat16 holds them exactly.

    Args:
        out: directory to make.
        weights: as in `ConversionOptions`.
        context_length: rows of the KV states; a token costs time in proportion.
        chat_template: written beside the tokenizer; the published template works with it.
        seed: of the weights.

    Raises:
        InputError: `out` exists, or `context_length` is below 64.
        MissingDependencyError: the extra `coreai-convert` is not installed.
    """
    options = ConversionOptions(
        name="gemma_4_tiny_mm", context_length=context_length, weights=weights, hf_model_id="gemma-4-tiny-random"
    )
    with tempfile.TemporaryDirectory() as directory:
        write_tokenizer(Path(directory), chat_template=chat_template)
        return convert_config(
            tiny_config(), out, tokenizer=directory, options=options, constants=tiny_constants(), seed=seed
        )


def tiny_model(*, seed: int = 0) -> Any:
    """The `Gemma4UnifiedForConditionalGeneration` of the bundle, float32."""
    return random_model(tiny_config(), seed=seed)


def tiny_config() -> Any:
    """A `Gemma4UnifiedConfig` with the 12B model's features: 5:1 layers, K = V and one wide KV head on full ones."""
    transformers = require("transformers", extra=EXTRA)
    ids = token_ids()
    scale = 0.08  # of the weights: wide enough for logits whose order survives rounding
    text = {
        "vocab_size": vocabulary_size(),
        "hidden_size": _HIDDEN,
        "intermediate_size": 2 * _HIDDEN,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "global_head_dim": 32,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
        "sliding_window": SLIDING_WINDOW,
        "final_logit_softcapping": 30.0,
        "initializer_range": scale,
        "pad_token_id": ids.pad,
        "bos_token_id": ids.bos,
        "eos_token_id": ids.eos,
    }
    vision = {"mm_embed_dim": _HIDDEN, "output_proj_dims": _HIDDEN, "initializer_range": scale}
    return transformers.Gemma4UnifiedConfig(
        text_config=text,
        vision_config=vision,
        audio_config={"initializer_range": scale},
        boi_token_id=ids.boi,
        eoi_token_id=ids.eoi,
        image_token_id=ids.image,
        video_token_id=ids.video,
        boa_token_id=ids.boa,
        eoa_token_index=ids.eoa,
        audio_token_id=ids.audio,
        initializer_range=scale,
    )


def tiny_constants() -> MultimodalConstants:
    """The constants of its metadata."""
    ids = token_ids()
    return replace(
        MultimodalConstants(),
        tokens=ids,
        stop_ids=stop_ids(),
        suppressed_ids=(ids.eoa, ids.eoi),
        image_soft_tokens=70,
        video_frames=_VIDEO_FRAMES,
        sliding_window=SLIDING_WINDOW,
    )
