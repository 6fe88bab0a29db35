"""`processor_config.json`: the defaults that it may set, and the refusal of everything that is not reproduced here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gemma4_mm.errors import InputError
from gemma4_mm.releases import DEFAULT_PROFILE, Profile
from gemma4_mm.spec import PATCH_PX, POOLING, SAMPLE_RATE_HZ, SAMPLES_PER_TOKEN, check_budget

# The only values that are reproduced, by section; "" is the top. The published file's other fields change no output of
# the reference: do_normalize (mean 0, deviation 1), class names, image_seq_length and audio_seq_length.
_VISION: Final[Mapping[str, Any]] = {
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
_FIXED: Final[Mapping[str, Mapping[str, Any]]] = {
    "": {"audio_ms_per_token": SAMPLES_PER_TOKEN * 1000 // SAMPLE_RATE_HZ},
    "image_processor": _VISION,
    "video_processor": {**_VISION, "do_sample_frames": True, "fps": None},
    "feature_extractor": {
        "sampling_rate": SAMPLE_RATE_HZ,
        "audio_samples_per_token": SAMPLES_PER_TOKEN,
        "feature_size": SAMPLES_PER_TOKEN,
        "padding_side": "right",
        "padding_value": 0.0,
    },
}


@dataclass(frozen=True, kw_only=True)
class ProcessorConfig:
    """The fields of `processor_config.json` that callers may vary; defaults are those of `DEFAULT_PROFILE`.

    Attributes:
        image_soft_tokens: budget of an image where a call names none.
        video_soft_tokens: the same for a video frame.
        video_frames: frames sampled from a video where a call names no number.
    """

    image_soft_tokens: int = DEFAULT_PROFILE.image_soft_tokens
    video_soft_tokens: int = DEFAULT_PROFILE.video_soft_tokens
    video_frames: int = DEFAULT_PROFILE.video_frames

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, profile: Profile = DEFAULT_PROFILE) -> "ProcessorConfig":
        """Read a parsed `processor_config.json`; refuse what this package does not reproduce.

        Args:
            data: the file's content; `{}` where there is none.
            profile: whose defaults stand in for fields that the file does not set.

        Raises:
            InputError: a field has a value for which no exact path exists here, such as another patch size, mean,
                sampling rate or number of samples per token. The message names it.
        """
        image, video = _section(data, "image_processor"), _section(data, "video_processor")
        for name, fixed in _FIXED.items():
            section = _section(data, name) if name else data
            for key, wanted in fixed.items():
                if key in section and section[key] != wanted:
                    raise InputError(
                        f"{_setting(name, key, section[key])}; only {wanted!r} is reproduced; use the configuration of "
                        "google/gemma-4-12B-it"
                    )
        return cls(
            image_soft_tokens=_budget(image, "image_processor", default=profile.image_soft_tokens),
            video_soft_tokens=_budget(video, "video_processor", default=profile.video_soft_tokens),
            video_frames=_frames(video, default=profile.video_frames),
        )


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name, {})
    if not isinstance(section, Mapping):
        raise InputError(f"{_setting('', name, section)}; it must be an object")
    return section


def _budget(section: Mapping[str, Any], name: str, *, default: int) -> int:
    value = section.get("max_soft_tokens", default)
    try:
        return check_budget(value)
    except InputError as error:
        raise InputError(f"{_setting(name, 'max_soft_tokens', value)}: {error}") from error


def _frames(section: Mapping[str, Any], *, default: int) -> int:
    value = section.get("num_frames", default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{_setting('video_processor', 'num_frames', value)}; it must be a whole number from 1 up")
    return value


def _setting(section: str, key: str, value: Any) -> str:
    return f"processor_config.json sets {section}{section and '.'}{key} to {value!r}"
