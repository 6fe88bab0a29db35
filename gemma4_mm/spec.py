"""The numbers of Gemma 4 12B's client side that no release and no configuration changes, with their source.

Sources: `processor_config.json` of google/gemma-4-12B-it and the class defaults of transformers 5.24's
`gemma4_unified`. Nothing here computes; everything above refers to it. What differs between releases, and every
default, is in `gemma4_mm.releases`.
"""

from dataclasses import dataclass
from numbers import Real
from typing import Final, Literal

from gemma4_mm.errors import InputError

PATCH_PX: Final = 16  # vision patch side; processor_config.json image_processor.patch_size
POOLING: Final = 3  # patches merged per axis; image_processor.pooling_kernel_size
MERGED_PATCH_PX: Final = PATCH_PX * POOLING  # 48: one soft token's side
PATCH_VALUES: Final = MERGED_PATCH_PX * MERGED_PATCH_PX * 3  # 6912 values of one merged RGB patch
SOFT_TOKEN_BUDGETS: Final = (70, 140, 280, 560, 1120)  # HF _SUPPORTED_SOFT_TOKENS
FLOAT_DTYPES: Final = ("float32", "float16", "bfloat16")  # of tensors of media; HF's is the first
SAMPLE_RATE_HZ: Final = 16_000  # feature_extractor.sampling_rate
SAMPLES_PER_TOKEN: Final = 640  # 40 ms at 16 kHz; feature_extractor.audio_samples_per_token
SLIDING_WINDOW: Final = 1024  # text_config.sliding_window
VOCAB_SIZE: Final = 262_144

TYPE_TEXT: Final = 0  # mm_token_type_ids: text, boi/eoi/boa/eoa and padding
TYPE_IMAGE: Final = 1
TYPE_VIDEO: Final = 2
TYPE_AUDIO: Final = 3

IMAGE_TOKEN: Final = "<|image|>"
AUDIO_TOKEN: Final = "<|audio|>"
VIDEO_TOKEN: Final = "<|video|>"
BOI_TOKEN: Final = "<|image>"
EOI_TOKEN: Final = "<image|>"
BOA_TOKEN: Final = "<|audio>"
EOA_TOKEN: Final = "<audio|>"

MediaKind = Literal["image", "video", "audio"]
MaskRule = Literal["forward", "static", "deepmind"]


@dataclass(frozen=True, kw_only=True)
class TokenIds:
    """Ids of the special tokens; the defaults are google/gemma-4-12B-it's (its tokenizer.json)."""

    pad: int = 0
    eos: int = 1
    bos: int = 2
    boi: int = 255_999
    boa: int = 256_000
    image: int = 258_880
    audio: int = 258_881
    eoi: int = 258_882
    eoa: int = 258_883
    video: int = 258_884


def check_budget(max_soft_tokens: int) -> int:
    """Return `max_soft_tokens` if it is one of the five budgets.

    Raises:
        InputError: it is not, as HF's image and video processors raise ValueError.
    """
    is_number = isinstance(max_soft_tokens, Real) and not isinstance(max_soft_tokens, bool)
    if not is_number or max_soft_tokens not in SOFT_TOKEN_BUDGETS:
        raise InputError(f"max_soft_tokens is {max_soft_tokens!r}; it must be one of {SOFT_TOKEN_BUDGETS}")
    return max_soft_tokens
