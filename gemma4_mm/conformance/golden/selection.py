"""Which cases of the corpus become fixtures, and what a port is given of them.

Chosen so that a port can do them: no case that is refused, none about a decoder, a resampler or a template, and none
over a megabyte.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.cases import all_cases
from gemma4_mm.conformance.cases.defaults import UNKNOWN_FPS, VIDEO_FRAMES
from gemma4_mm.conformance.golden.additional import additional_cases
from gemma4_mm.conformance.golden.png import PNG_MODES, png_bytes
from gemma4_mm.conformance.oracle import given
from gemma4_mm.conformance.records import Case, Stages
from gemma4_mm.errors import InvariantError
from gemma4_mm.spec import TokenIds

SELECTION: Final = (
    # images
    "image-checkerboard",
    "image-letters",
    "size-one-pixel",
    "size-one-pixel-tall-long",
    "size-one-pixel-wide-long",
    "size-five-hundred-by-two",
    "size-extreme-portrait",
    "size-aspect-at-the-budget",
    "size-upscaled-from-tiny",
    "size-prime-sides",
    "exact-fit-70",
    "exact-fit-plus-one",
    "budget-140",
    "budget-280",
    "budget-560",
    "budget-1120",
    "exif-1",
    "exif-2",
    "exif-3",
    "exif-4",
    "exif-5",
    "exif-6",
    "exif-7",
    "exif-8",
    "mode-alpha",
    "mode-palette-alpha",
    "mode-colour-key",
    "pitfall-pillow-resize",
    "pitfall-letterbox",
    "pitfall-exif-ignored",
    "pitfall-alpha-on-black",
    "pitfall-palette-transparency",
    "pitfall-icc-profile",
    "pitfall-three-by-nine-hundred",
    # videos
    "video-4-of-45",
    "video-7-of-7",
    "video-fps-29-97",
    "video-fps-0-01",
    "video-uneven",
    "video-13-of-15",
    "video-budget-140",
    "video-portrait",
    "video-noise",
    "pitfall-timestamps-zero",
    "pitfall-fps-inverted",
    "pitfall-rescale-of-frames",
    # audio
    "audio-silence",
    "audio-negative-silence",
    "audio-chirp",
    "audio-loud",
    "audio-subnormal",
    "audio-remainder-*",
    "audio-length-*",
    "pitfall-audio-off-by-one",
    # conversations
    "talk-one-turn",
    "talk-batch",
    "media-text-first",
    "media-two-images",
    "media-two-sounds",
    "media-video",
    "media-mixed",
    "media-batch",
    "media-sanitized",
    "pitfall-prefix-cache",
    "pitfall-gemma4-processor",
    "pitfall-image-ignored",
    "pitfall-image-url",
    # masks
    "masks-*",
    "pitfall-mask-on-wrong-layers",
    "pitfall-block-over-window",
    "pitfall-chunk-inside-block",
)
_RGB: Final = 3  # channels


@dataclass(frozen=True, kw_only=True, eq=False)
class FixtureCase:
    """What a port is given of a case, and what it has to give.

    Attributes:
        case: the case of the corpus.
        about: what it is, and what goes wrong elsewhere.
        parameters: numbers beside the tensors.
        inputs: what a port starts from.
        expected: what it has to give.
        prompts: of a conversation, one record for each row of the batch.
    """

    case: Case
    about: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, NDArray[Any]]
    expected: Stages
    prompts: Sequence[Mapping[str, Any]] = ()

    @property
    def prompt_ids(self) -> list[list[int]]:
        """Token ids of each row before expansion."""
        return [row["prompt_ids"] for row in self.prompts]


def fixture_cases() -> Iterator[Case]:
    """The selected cases in the order of the corpus, then those that it does not have.

    Raises:
        InvariantError: a selected case is not in the corpus any more.
    """
    unmatched = set(SELECTION)
    for case in all_cases():
        patterns = {pattern for pattern in SELECTION if fnmatchcase(case.name, pattern)}
        unmatched -= patterns
        if patterns:
            yield case
    if unmatched:
        raise InvariantError(f"no case of the corpus is named {', '.join(sorted(unmatched))}; mend SELECTION")
    yield from additional_cases()


def is_portable(case: Case) -> bool:
    """Whether a port can do a case: pixels in one of PNG's forms, samples at 16 kHz, no cut of a sound.

    Of the named cases more are left out, see `SELECTION`; random ones are judged by this alone.
    """
    options = case.options
    if case.kind == "image":
        plain = options.get("given_as") != "array" or case.inputs["pixels"].shape[-1] == _RGB
        return plain and options.get("mode", "RGB") in PNG_MODES
    return case.kind != "audio" or not options.keys() & {"given_as", "max_length"}


def describe_case(case: Case, stages: Stages) -> FixtureCase:
    """Split a case and its stages into what a port is given and what it has to give."""
    split = _SPLIT[case.kind](case, stages)
    elsewhere = f" Elsewhere: {case.pitfall}." if case.pitfall else ""
    given_names = {"prompt", "pcm", *split["inputs"]}
    return FixtureCase(
        case=case,
        about=case.summary + elsewhere,
        expected={name: value for name, value in stages.items() if name not in given_names},
        **split,
    )


def _image(case: Case, stages: Stages) -> dict[str, Any]:
    parameters = {"max_soft_tokens": len(stages["patches"])}
    if case.options.keys() <= {"max_soft_tokens", "given_as"} and case.options.get("given_as") != "file":
        return {"inputs": {"source_rgb": stages["source_rgb"]}, "parameters": parameters}
    options = case.options
    picture = given.make_picture(case.inputs, options).convert("RGBA")
    file = png_bytes(
        case.inputs["pixels"],
        mode=options.get("mode", "RGB"),
        palette=case.inputs.get("palette"),
        transparency=case.inputs.get("palette_alpha", options.get("transparency")),
        exif_orientation=options.get("exif_orientation"),
        icc_profile=case.inputs["icc_profile"].tobytes() if "icc_profile" in case.inputs else None,
    )
    inputs = {
        "source_rgba": np.array(picture),
        "orientation": np.array([options.get("exif_orientation", 1)], np.int32),
        "source_png": np.frombuffer(file, np.uint8),
    }
    return {"inputs": inputs, "parameters": parameters}


def _video(case: Case, stages: Stages) -> dict[str, Any]:
    parameters = _video_parameters(case.options, budget=stages["patches"].shape[1])
    return {"inputs": {"source_rgb": case.inputs["frames"]}, "parameters": parameters}


def _video_parameters(options: Mapping[str, Any], *, budget: int) -> dict[str, Any]:
    sampled = options.get("do_sample_frames", True)
    return {
        "max_soft_tokens": budget,
        "num_frames": options.get("num_frames", VIDEO_FRAMES) if sampled else None,
        "fps": options.get("fps", UNKNOWN_FPS),
        "frame_indices": options.get("frames_indices"),
    }


def _audio(case: Case, stages: Stages) -> dict[str, Any]:  # noqa: ARG001 (as its siblings)
    samples = case.inputs["samples"]
    levels = samples * np.float32(128) + np.float32(128)
    if len(samples) > 100_000 and np.array_equal(levels, levels.astype(np.uint8)):
        return {"inputs": {"pcm_u8": levels.astype(np.uint8)}, "parameters": {}}
    return {"inputs": {"pcm": samples}, "parameters": {}}


def _masks(case: Case, stages: Stages) -> dict[str, Any]:  # noqa: ARG001 (as its siblings)
    parameters = {"window": case.options["sliding_window"], "max_chunk": case.options["max_chunk"]}
    return {"inputs": case.inputs, "parameters": parameters}


def _conversation(case: Case, stages: Stages) -> dict[str, Any]:
    call = case.options["arguments"].get("processor_kwargs", {})
    media = []
    for kind, name in _media_in_order(case.options["messages"]):
        if kind == "image":
            medium: dict[str, Any] = {"max_soft_tokens": stages["pixel_values"].shape[1]}
        elif kind == "video":
            medium = _video_parameters(call, budget=stages["pixel_values_videos"].shape[1])
        else:
            medium = {}
        media.append({"kind": kind, "input": name, **medium})
    ids, attention = stages["token_ids"], stages["attention_mask"]
    texts = stages["prompt"].tobytes().decode().split("\0") if "prompt" in stages else [None] * len(ids)
    prompts = [
        {"prompt": text, "prompt_ids": _collapse(row[valid == 1].tolist())}
        for text, row, valid in zip(texts, ids, attention, strict=True)
    ]
    return {"inputs": case.inputs, "parameters": {"media": media}, "prompts": prompts}


def _media_in_order(messages: Any) -> Iterator[tuple[str, str]]:
    """Kind and input of each medium, in order of appearance."""
    if isinstance(messages, list):
        for item in messages:
            yield from _media_in_order(item)
    elif isinstance(messages, Mapping):
        kind = str(messages.get("type", "")).removesuffix("_url")
        for key, value in messages.items():
            if key in ("$input", "$data_uri"):
                raise InvariantError(f"a medium of no kind: {messages}")
            name = _input_name(value)
            if name is not None:
                yield kind, name
            else:
                yield from _media_in_order(value)


def _input_name(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return None
    name = value.get("$input", value.get("$data_uri"))
    return _input_name(value["url"]) if name is None and "url" in value else name


def _collapse(ids: Sequence[int]) -> list[int]:
    """Token ids with every begin, soft tokens and end taken back to one placeholder."""
    tokens = TokenIds()
    ends = {tokens.boi: tokens.eoi, tokens.boa: tokens.eoa}
    collapsed, place = [], 0
    while place < len(ids):
        token = ids[place]
        if token in ends:
            stop = ids.index(ends[token], place)
            token = ids[place + 1] if stop > place + 1 else tokens.audio
            place = stop
        collapsed.append(token)
        place += 1
    return collapsed


_SPLIT: Final = {"image": _image, "video": _video, "audio": _audio, "conversation": _conversation, "masks": _masks}
