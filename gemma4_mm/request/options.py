"""Keyword arguments of a processor call, resolved as Hugging Face resolves them.

A flat argument reaches every modality that knows it (`max_soft_tokens`: images and videos; `padding`, `max_length`:
text and audio), `images_kwargs`, `videos_kwargs`, `audio_kwargs` and `text_kwargs` reach one; `dtype` and `out`, which
are this package's own, are for all media. Unlike Hugging Face, which warns and ignores it, an unknown argument is an
error: a misspelt budget must not pass silently.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict, cast

from gemma4_mm.assets.processor_config import ProcessorConfig
from gemma4_mm.core.outputs import Outputs, resolve_outputs
from gemma4_mm.core.padding import Padding
from gemma4_mm.errors import InputError
from gemma4_mm.media.video import FrameSampling
from gemma4_mm.spec import check_budget

_SECTIONS: Final = ("text_kwargs", "images_kwargs", "videos_kwargs", "audio_kwargs")
_LENGTH_KEYS: Final = frozenset({"padding", "max_length", "truncation", "pad_to_multiple_of"})
_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "text_kwargs": _LENGTH_KEYS | {"padding_side"},
    "images_kwargs": frozenset({"max_soft_tokens"}),
    "videos_kwargs": frozenset({"max_soft_tokens", "num_frames", "fps", "do_sample_frames", "video_metadata"}),
    "audio_kwargs": _LENGTH_KEYS - {"pad_to_multiple_of"},  # HF's feature extractor drops it
}
# Accepted where the value is the one that this package always has, so that calls written for HF run unchanged.
_FIXED: Final[Mapping[str, tuple[Any, ...]]] = {
    "return_tensors": ("np", None),
    "return_mm_token_type_ids": (True,),
    "add_special_tokens": (True, False),  # this tokenizer adds none either way; the chat template writes <bos>
    "return_attention_mask": (True,),
    "load_audio_backend": ("soundfile", "auto"),
    "do_convert_rgb": (True,),
    "do_resize": (True,),
    "do_rescale": (True,),
}


class EncodeOptions(TypedDict, total=False):
    """What a call can set beside its text and media; Hugging Face's names, defaults and meaning, but for the last two.

    `max_soft_tokens`: of images and video frames, one of 70, 140, 280, 560, 1120. `num_frames`, `fps`,
    `do_sample_frames`, `video_metadata`: see `media.video`. `padding`, `max_length`, `truncation`, `padding_side`,
    `pad_to_multiple_of`: see `LengthOptions`. The same under `images_kwargs`, `videos_kwargs`, `audio_kwargs` and
    `text_kwargs` for one modality. `dtype` ("float16", "bfloat16") and `out` (arrays for media tensors by name): see
    `core.outputs`.
    """

    max_soft_tokens: int | None
    num_frames: int | None
    fps: float | None
    do_sample_frames: bool | None
    video_metadata: Any
    padding: bool | str | None
    max_length: int | None
    truncation: bool | str | None
    padding_side: Literal["left", "right"] | None
    pad_to_multiple_of: int | None
    images_kwargs: Mapping[str, Any] | None
    videos_kwargs: Mapping[str, Any] | None
    audio_kwargs: Mapping[str, Any] | None
    text_kwargs: Mapping[str, Any] | None
    dtype: Any
    out: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class LengthOptions:
    """How rows of different length become one array; lengths in tokens.

    Attributes:
        padding: to the longest row, to `max_length`, or not at all (then rows must agree).
        max_length: the length to pad or truncate to.
        truncation: whether rows over `max_length` are cut at their end.
        pad_to_multiple_of: round the padded length up to this.
        side: where the padding goes.
    """

    padding: Padding
    max_length: int | None
    truncation: bool
    pad_to_multiple_of: int | None
    side: Literal["left", "right"]


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Budget and frame sampling of videos; see `media.video`."""

    max_soft_tokens: int
    sampling: FrameSampling
    video_metadata: Any


@dataclass(frozen=True, kw_only=True)
class CallOptions:
    """Everything that a processor call can set, with the configuration's defaults filled in."""

    text: LengthOptions
    image_soft_tokens: int
    video: VideoOptions
    audio: LengthOptions
    outputs: Outputs


def resolve_options(kwargs: Mapping[str, Any], *, config: ProcessorConfig) -> CallOptions:
    """Sort flat and nested keyword arguments into the four modalities.

    Source: transformers 5.24 `ProcessorMixin._merge_kwargs` and the defaults of `Gemma4UnifiedProcessor`.

    Raises:
        InputError: an unknown argument, one passed twice, or a value of the wrong type or range.
    """
    kwargs = dict(kwargs)
    outputs = resolve_outputs(dtype=kwargs.pop("dtype", None), out=kwargs.pop("out", None))
    sections: dict[str, dict[str, Any]] = {name: dict(kwargs.get(name) or {}) for name in _SECTIONS}
    common = dict(kwargs.get("common_kwargs") or {})
    flat = {key: value for key, value in kwargs.items() if key not in (*_SECTIONS, "common_kwargs")}
    for key, value in {**common, **flat}.items():
        takers = [name for name in _SECTIONS if key in _KNOWN[name]]
        if not takers:
            _check_fixed(key, value)
        for name in takers:
            if key in sections[name] and key in flat:
                raise InputError(f"{key} was passed twice: in {name} and as a keyword; pass it once")
            sections[name].setdefault(key, value)
    for name, section in sections.items():
        for key in [key for key in section if key not in _KNOWN[name]]:
            _check_fixed(key, section.pop(key), section=name)
    images, videos = sections["images_kwargs"], sections["videos_kwargs"]
    return CallOptions(
        text=_length_options("text", {"padding": True, **sections["text_kwargs"]}),
        image_soft_tokens=check_budget(_default(images, "max_soft_tokens", config.image_soft_tokens)),
        video=_video_options(videos, config=config),
        audio=_length_options("audio", {"padding": "longest", "truncation": True, **sections["audio_kwargs"]}),
        outputs=outputs,
    )


def _check_fixed(key: str, value: Any, *, section: str | None = None) -> None:
    where = f" in {section}" if section else ""
    if key == "sampling_rate":
        if value not in (None, 16_000):
            raise InputError(
                f"sampling_rate{where} is {value!r}; the model hears 16000 Hz only; resample the audio first"
            )
    elif key not in _FIXED:
        known = sorted({"dtype", "out", *(name for names in _KNOWN.values() for name in names)})
        raise InputError(f"unknown argument {key!r}{where}; known are: {', '.join(known)}")
    elif not any(value is allowed for allowed in _FIXED[key]) and value not in _FIXED[key]:
        hint = "; wrap the arrays with torch.from_numpy" if key == "return_tensors" else ""
        raise InputError(f"{key}={value!r}{where} is not supported; it is always {_FIXED[key][0]!r} here{hint}")


def _default(section: Mapping[str, Any], key: str, default: Any) -> Any:
    value = section.get(key)
    return default if value is None else value


def _video_options(section: Mapping[str, Any], *, config: ProcessorConfig) -> VideoOptions:
    num_frames = _positive("num_frames", section.get("num_frames"))
    fps = section.get("fps")
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float) or not fps > 0):
        raise InputError(f"fps is {fps!r}; it must be a number of frames per second above 0")
    if fps is not None and num_frames is not None:
        raise InputError("num_frames and fps were both given; pass one of them")
    if fps is not None and "num_frames" not in section:
        # HF fills in its configured count, and then raises; with an explicit None it ignores fps
        raise InputError(
            f"fps={fps} clashes with the configured num_frames {config.video_frames}, as in HF; pass num_frames"
        )
    sample = section.get("do_sample_frames")
    if sample is not None and not isinstance(sample, bool):
        raise InputError(f"do_sample_frames is {sample!r}; it must be True or False")
    return VideoOptions(
        max_soft_tokens=check_budget(_default(section, "max_soft_tokens", config.video_soft_tokens)),
        sampling=FrameSampling(
            num_frames=config.video_frames if num_frames is None else num_frames,
            do_sample_frames=True if sample is None else sample,
        ),
        video_metadata=section.get("video_metadata"),
    )


def _length_options(what: str, section: Mapping[str, Any]) -> LengthOptions:
    max_length = _positive("max_length", section.get("max_length"))
    padding = _padding(what, section.get("padding"))
    truncation = section.get("truncation")
    if truncation is None:
        # HF: a bare max_length truncates where nothing is padded
        truncates = what == "text" and max_length is not None and padding == "none"
    elif isinstance(truncation, bool):
        truncates = truncation
    elif truncation in ("longest_first", "only_first"):
        truncates = True
    elif truncation == "do_not_truncate":
        truncates = False
    else:
        raise InputError(f"truncation of {what} is {truncation!r}; it must be True, False or 'longest_first'")
    side = _default(section, "padding_side", "left" if what == "text" else "right")
    if side not in ("left", "right"):
        raise InputError(f"padding_side is {side!r}; it must be 'left' or 'right'")
    multiple = _positive("pad_to_multiple_of", section.get("pad_to_multiple_of"))
    if what == "text" and truncates and padding != "none" and max_length and multiple and max_length % multiple:
        raise InputError(f"max_length {max_length} is not a multiple of pad_to_multiple_of {multiple}; make it one")
    return LengthOptions(
        padding=padding,
        max_length=max_length,
        truncation=truncates and max_length is not None,
        pad_to_multiple_of=multiple,
        side=side,
    )


def _padding(what: str, value: Any) -> Padding:
    if value is None or isinstance(value, bool | int | str):
        if value is True or value == "longest":
            return "longest"
        if value in (False, None, "do_not_pad"):
            return "none"
        if value == "max_length":
            return cast(Padding, value)
    raise InputError(f"padding of {what} is {value!r}; it must be True, False, 'longest', 'max_length' or 'do_not_pad'")


def _positive(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; it must be a whole number of at least 1")
    return value
