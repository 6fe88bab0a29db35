"""The numbers of Gemma 4 12B's client side with their source, and the named profiles of reference behaviour.

Sources: `processor_config.json` of google/gemma-4-12B-it and the class defaults of transformers 5.24's
`gemma4_unified`. Nothing here computes; everything above refers to it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, Literal

from gemma4_mm.errors import InputError

PATCH_PX: Final = 16  # vision patch side; processor_config.json image_processor.patch_size
POOLING: Final = 3  # patches merged per axis; image_processor.pooling_kernel_size
MERGED_PATCH_PX: Final = PATCH_PX * POOLING  # 48: one soft token's side
PATCH_VALUES: Final = MERGED_PATCH_PX * MERGED_PATCH_PX * 3  # 6912 values of one merged RGB patch
SOFT_TOKEN_BUDGETS: Final = (70, 140, 280, 560, 1120)  # HF _SUPPORTED_SOFT_TOKENS
IMAGE_SOFT_TOKENS: Final = 280  # image_processor.max_soft_tokens
VIDEO_SOFT_TOKENS: Final = 70  # video_processor.max_soft_tokens, per frame
VIDEO_FRAMES: Final = 32  # video_processor.num_frames
DEFAULT_FPS: Final = 24.0  # HF's value where a video's frame rate is unknown
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


@dataclass(frozen=True, kw_only=True)
class ProcessorConfig:
    """The fields of `processor_config.json` that change an output; defaults are the published ones."""

    image_soft_tokens: int = IMAGE_SOFT_TOKENS
    video_soft_tokens: int = VIDEO_SOFT_TOKENS
    video_frames: int = VIDEO_FRAMES
    sample_rate_hz: int = SAMPLE_RATE_HZ
    samples_per_token: int = SAMPLES_PER_TOKEN

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ProcessorConfig":
        """Read a parsed `processor_config.json`; refuse what this package does not reproduce.

        Raises:
            InputError: a field has a value for which no exact path exists here (another patch size, mean or std).
        """
        audio = data.get("feature_extractor", {})
        image = data.get("image_processor", {})
        video = data.get("video_processor", {})
        for part, section in (("image_processor", image), ("video_processor", video)):
            for key, wanted in _FIXED_VISION_FIELDS.items():
                if key in section and section[key] != wanted:
                    raise InputError(
                        f"processor_config.json sets {part}.{key} to {section[key]!r}; only {wanted!r} is reproduced; "
                        "use the configuration of google/gemma-4-12B-it"
                    )
        return cls(
            image_soft_tokens=check_budget(image.get("max_soft_tokens", IMAGE_SOFT_TOKENS)),
            video_soft_tokens=check_budget(video.get("max_soft_tokens", VIDEO_SOFT_TOKENS)),
            video_frames=int(video.get("num_frames", VIDEO_FRAMES)),
            sample_rate_hz=int(audio.get("sampling_rate", SAMPLE_RATE_HZ)),
            samples_per_token=int(audio.get("audio_samples_per_token", SAMPLES_PER_TOKEN)),
        )


_FIXED_VISION_FIELDS: Final[Mapping[str, Any]] = {
    "patch_size": PATCH_PX,
    "pooling_kernel_size": POOLING,
    "resample": 3,  # PIL's bicubic
    "rescale_factor": 1 / 255,
    "image_mean": [0.0, 0.0, 0.0],
    "image_std": [1.0, 1.0, 1.0],
    "do_resize": True,
    "do_rescale": True,
    "do_convert_rgb": True,
}


def check_budget(max_soft_tokens: int) -> int:
    """Return `max_soft_tokens` if it is one of the five budgets.

    Raises:
        InputError: it is not, as HF's image and video processors raise ValueError.
    """
    is_number = isinstance(max_soft_tokens, Real) and not isinstance(max_soft_tokens, bool)
    if not is_number or max_soft_tokens not in SOFT_TOKEN_BUDGETS:
        raise InputError(f"max_soft_tokens is {max_soft_tokens!r}; it must be one of {SOFT_TOKEN_BUDGETS}")
    return max_soft_tokens


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How a reference behaves where references differ. Frozen and named, so that a result can say what it equals.

    Attributes:
        name: e.g. "transformers-5.24"; part of every content key and report.
        alpha: transparent pixels are composited on white (5.21 and later) or the alpha channel is dropped.
        string_image_exif: EXIF orientation of images given as path, URL or base64; ignored before 5.21.
        frame_sampling: `arange(n)·T // n` (5.18 and later), or `arange(0, T, T/n)` in floats before, where a single
            frame cannot be sampled of an array.
        video_layout: frames of all videos concatenated and counted in `num_frames_per_video` (5.19 and later), or
            stacked per video, without counts.
        placeholder_counts: a count that disagrees with the media is an error (strict, 5.23 and later).
        none_keys: message keys whose value is None are dropped (5.24 and later) or kept.
        mask_rule: which of HF's two attention rules (see `core.attention.masks`); `forward` is the model's own.
    """

    name: str
    alpha: Literal["white", "dropped"] = "white"
    string_image_exif: Literal["applied", "ignored"] = "applied"
    frame_sampling: Literal["integer", "float"] = "integer"
    video_layout: Literal["concatenated", "stacked"] = "concatenated"
    placeholder_counts: Literal["strict", "lenient"] = "strict"
    none_keys: Literal["dropped", "kept"] = "dropped"
    mask_rule: MaskRule = "forward"

    @classmethod
    def transformers(cls, version: str = "5.24") -> "Profile":
        """The behaviour of one transformers release, e.g. `Profile.transformers("5.12")`.

        Raises:
            InputError: not a version, or one before 5.10.1 (the first with `gemma4_unified`).
        """
        release = _parse_release(version)
        if release < (5, 10, 0):
            raise InputError(f"transformers {version} has no gemma4_unified; the first that has it is 5.10.1")
        return cls(
            name=f"transformers-{version}",
            alpha="white" if release >= (5, 21, 0) else "dropped",
            string_image_exif="applied" if release >= (5, 21, 0) else "ignored",
            frame_sampling="integer" if release >= (5, 18, 0) else "float",
            video_layout="concatenated" if release >= (5, 19, 0) else "stacked",
            placeholder_counts="strict" if release >= (5, 23, 0) else "lenient",
            none_keys="dropped" if release >= (5, 24, 0) else "kept",
        )

    def at_least(self, version: str) -> bool:
        """Whether this is the profile of a release that is `version` or later, e.g. `at_least("5.23")`.

        Raises:
            InputError: not a version, or a profile that is not named after a release.
        """
        return _parse_release(self.name.removeprefix("transformers-")) >= _parse_release(version)


def _parse_release(version: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if match is None:
        raise InputError(f"{version!r} is not a transformers version; write it as '5.24' or '5.21.1'")
    return int(match[1]), int(match[2]), int(match[3] or 0)


DEFAULT_PROFILE: Final = Profile.transformers("5.24")
