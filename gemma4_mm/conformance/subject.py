"""The implementations under test: this package itself, any callable, or files that another language wrote."""

import importlib
import itertools
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.oracle import given
from gemma4_mm.conformance.records import STAGES, Case, CaseKind, Stages, Subject
from gemma4_mm.conformance.tensor_files import read_case
from gemma4_mm.core.attention.masks import describe_masks
from gemma4_mm.core.audio.waveform import write_blocks
from gemma4_mm.core.prefill.chunks import plan_chunks
from gemma4_mm.core.vision.geometry import plan_image
from gemma4_mm.core.vision.resize import ArrayRows, resize_rgb
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import ModelInputs, Segment
from gemma4_mm.media.access import MediaAccess
from gemma4_mm.media.audio import open_audio
from gemma4_mm.media.image import open_image
from gemma4_mm.media.video import FrameSampling, open_video
from gemma4_mm.optional import require
from gemma4_mm.processor import Processor
from gemma4_mm.spec import AUDIO_TOKEN, VIDEO_TOKEN, MaskRule

_TIMESTAMP: Final = re.compile(r"(\d+):(\d\d) <\|image>")
_KINDS: Final = ("text", "image", "video", "audio")


class OwnSubject:
    """This package: the public path of `Processor`, and the layers below it for the stages on the way.

    Attributes:
        processor: with the profile that is compared.
    """

    def __init__(self, processor: Processor) -> None:
        self.processor = processor

    def __call__(self, case: Case) -> Stages:
        """Compute all stages of a case.

        Raises:
            Gemma4MMError: the case is refused.
        """
        with tempfile.TemporaryDirectory(prefix="gemma4-mm-case-") as folder:
            return _STEPS[case.kind](self.processor, case, Path(folder))


def load_subject(name: str) -> Subject:
    """Import a subject named `module:callable`, which takes a `Case` and returns arrays by stage name.

    The current directory is searched after everything else.

    Raises:
        InputError: not such a name, or nothing callable is there.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise InputError(f"--subject is {name!r}; write it as module:callable, e.g. my_port.parity:run_case")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        subject = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"--subject {name}: {error}; the module must be importable from {here}, or installed"
        ) from error
    if not callable(subject):
        raise InputError(f"--subject {name} is {type(subject).__name__}; it must be callable with a Case")
    checked: Subject = subject
    return checked


class DirectorySubject:
    """Stages that another program wrote: per case `NAME.safetensors`, or a folder `NAME` of one `.npy` per stage.

    Raises:
        InputError: no such directory.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise InputError(f"--subject-dir {directory} is no directory; write one NAME.safetensors per case into it")
        self._directory = directory

    def __call__(self, case: Case) -> Stages:
        """Read the stages of a case; none where the program wrote none.

        Raises:
            InputError: a file that cannot be read, or two forms of one case.
        """
        return read_case(self._directory, case.name) or {}


def _image_stages(processor: Processor, case: Case, folder: Path) -> Stages:
    value = given.image_argument(case.inputs, case.options, folder)
    budget = case.options.get("max_soft_tokens", processor.config.image_soft_tokens)
    source = open_image(value, access=MediaAccess(profile=processor.profile)).decode()
    grid = plan_image(height_px=source.height_px, width_px=source.width_px, max_soft_tokens=budget)
    inputs = processor(images=value, max_soft_tokens=budget)
    return {
        "source_rgb": np.array(source.rows(0, source.height_px)),
        "target_size": _int32([grid.height_px, grid.width_px]),
        "resized_rgb": resize_rgb(source, grid=grid),
        "patches": inputs["pixel_values"][0],
        "position_ids": _int32(inputs["image_position_ids"][0]),
        "soft_tokens": _int32(inputs.token_counts["image"]),
    }


def _video_stages(processor: Processor, case: Case, folder: Path) -> Stages:  # noqa: ARG001 (as its siblings)
    frames, options = case.inputs["frames"], case.options
    arguments = given.video_arguments(options)
    metadata = given.video_metadata(case.inputs, options)
    inputs = processor(text=VIDEO_TOKEN, videos=[frames], video_metadata=metadata and [metadata], **arguments)
    video = open_video(
        frames,
        sampling=FrameSampling(
            num_frames=options.get("num_frames", processor.config.video_frames),
            do_sample_frames=options.get("do_sample_frames", True),
        ),
        video_metadata=metadata,
        access=MediaAccess(profile=processor.profile),
    )
    size = {"height_px": video.metadata.height_px, "width_px": video.metadata.width_px}
    grid = plan_image(**size, max_soft_tokens=options.get("max_soft_tokens", processor.config.video_soft_tokens))
    taken = list(video.frames())
    return {
        "frame_indices": _int32(video.metadata.frame_indices),
        "timestamps": _int32(
            [[int(m), int(s)] for m, s in _TIMESTAMP.findall(processor.decode(inputs["input_ids"][0]))]
        ),
        "target_size": _int32([grid.height_px, grid.width_px]),
        "resized_rgb": np.stack([resize_rgb(ArrayRows(frame), grid=grid) for frame in taken]),
        "patches": inputs["pixel_values_videos"].reshape(len(taken), -1, inputs["pixel_values_videos"].shape[-1]),
        "position_ids": _int32(inputs["video_position_ids"]).reshape(len(taken), -1, 2),
        "soft_tokens": _int32([segment.n_tokens for segment in inputs.segments if segment.kind == "video"]),
    }


def _audio_stages(processor: Processor, case: Case, folder: Path) -> Stages:
    if case.options.get("given_as") == "file":
        require("soundfile", extra="audio")
    value = given.audio_argument(case.inputs, case.options, folder)
    arguments = {"max_length": case.options["max_length"]} if "max_length" in case.options else {}
    inputs = processor(text=AUDIO_TOKEN, audio=[value], audio_kwargs=arguments)
    stages: dict[str, NDArray[Any]] = {} if isinstance(value, np.ndarray) else {"pcm": _samples(value)}
    return stages | {
        "frames": inputs["input_features"][0],
        "frames_mask": inputs["input_features_mask"][0].astype(np.uint8),
        "soft_tokens": _int32(inputs.token_counts["audio"]),
    }


def _samples(path: Any) -> NDArray[np.float32]:
    audio = open_audio(path)
    samples = np.empty(audio.n_samples, np.float32)
    write_blocks(audio.blocks(), samples)
    return samples


def _conversation_stages(processor: Processor, case: Case, folder: Path) -> Stages:  # noqa: ARG001 (as its siblings)
    messages, arguments = case.options["messages"], dict(case.options["arguments"])
    inputs: ModelInputs = processor.apply_chat_template(
        given.build_messages(messages, case.inputs), tokenize=True, return_dict=True, **arguments
    )
    prompt = None
    if not arguments.get("sanitize_control_tokens"):  # a plain string cannot tell typed tokens apart
        texts = given.build_messages(messages, case.inputs)
        prompt = processor.apply_chat_template(texts, tokenize=False, **arguments)
    return stages_of_inputs(prompt, inputs)


def stages_of_inputs(prompt: str | list[str] | None, inputs: Mapping[str, NDArray[Any]]) -> Stages:
    """Stages of a conversation from its rendered text and the tensors under Hugging Face's names.

    Several texts are joined by a zero byte each. Booleans become uint8 and int64 becomes int32.
    """
    names = {"input_ids": "token_ids", "mm_token_type_ids": "token_types"}
    tensors = {names.get(key, key): value for key, value in inputs.items()}
    stages: dict[str, NDArray[Any]] = {}
    if prompt is not None:
        text = prompt if isinstance(prompt, str) else "\0".join(prompt)
        stages["prompt"] = np.frombuffer(text.encode(), np.uint8)
    for name in STAGES["conversation"][1:]:
        if name in tensors:
            value = tensors[name]
            stages[name] = (
                value if value.dtype == np.float32 else value.astype(np.uint8 if value.dtype == bool else np.int32)
            )
    return stages


def _mask_stages(processor: Processor, case: Case, folder: Path) -> Stages:  # noqa: ARG001 (as its siblings)
    types, attention = case.inputs["token_types"], case.inputs["attention_mask"]
    window: int = case.options["sliding_window"]
    stages: dict[str, NDArray[Any]] = {}
    for rule in get_args(MaskRule):
        specs = describe_masks(types, attention_mask=attention, rule=rule, sliding_window=window)
        stages[f"mask_sliding_{rule}"] = specs.sliding_attention.dense()[:, 0].view(np.uint8)
        stages[f"mask_global_{rule}"] = specs.full_attention.dense()[:, 0].view(np.uint8)
    segments = [segment for row in range(len(types)) for segment in _segments(types[row], attention[row], row=row)]
    plan = [
        (row, chunk.tokens.start, chunk.tokens.stop)
        for row in range(len(types))
        for chunk in plan_chunks(
            segments, max_chunk=case.options["max_chunk"], capacity=types.shape[1], row=row, oversize="own_chunk"
        )
    ]
    return stages | {"chunk_plan": _int32(plan)}


def _segments(types: NDArray[np.int32], attention: NDArray[np.int32], *, row: int) -> list[Segment]:
    """Segments of one row: runs of one token type, padding apart."""
    kinds = np.where(attention == 0, len(_KINDS), types)
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
    segments = []
    for item, (start, stop) in enumerate(itertools.pairwise(edges)):
        kind = (*_KINDS, "padding")[int(kinds[start])]
        is_medium = kind in ("image", "video", "audio")
        segments.append(
            Segment(
                kind=kind,  # type: ignore[arg-type]
                row=row,
                start=start,
                stop=stop,
                item=item if is_medium else None,
                frame=0 if kind == "video" else None,
            )
        )
    return segments


def _int32(values: Any) -> NDArray[np.int32]:
    return np.asarray(values).astype(np.int32)


_STEPS: Final[Mapping[CaseKind, Callable[[Processor, Case, Path], Stages]]] = {
    "image": _image_stages,
    "video": _video_stages,
    "audio": _audio_stages,
    "conversation": _conversation_stages,
    "masks": _mask_stages,
}
