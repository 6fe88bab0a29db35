"""What a port does, by this package's own arithmetic: from the inputs of a fixture to every expected tensor.

Only what `SCHEMA.md` describes is used: no file is decoded, no template rendered, no text tokenised.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.golden.cases import waveform
from gemma4_mm.conformance.records import CaseKind
from gemma4_mm.core.attention.masks import build_masks
from gemma4_mm.core.audio.waveform import batch_frames, frame_waveform
from gemma4_mm.core.prefill.chunks import plan_chunks
from gemma4_mm.core.tokens.placeholders import SoftRun, expand_placeholders
from gemma4_mm.core.video.sampling import frame_timestamps, sample_frame_indices
from gemma4_mm.core.vision.geometry import plan_image, position_ids
from gemma4_mm.core.vision.patches import Rescale, merge_patches
from gemma4_mm.core.vision.resize import ArrayRows, resize_rgb
from gemma4_mm.inputs import Segment
from gemma4_mm.media import pillow
from gemma4_mm.optional import require
from gemma4_mm.releases import Profile
from gemma4_mm.spec import PATCH_VALUES, MaskRule, TokenIds

Tensors = dict[str, NDArray[Any]]
RULES: Final[tuple[MaskRule, ...]] = ("forward", "static", "deepmind")
_PROFILE: Final = Profile.transformers("5.24")  # of the hashed files, whatever this package's default is
_RESCALE: Final[Mapping[str, Rescale]] = {"image": "multiply", "video": "divide"}


def compute_stages(
    kind: CaseKind,
    inputs: Mapping[str, NDArray[Any]],
    parameters: Mapping[str, Any],
    *,
    prompts: Sequence[Sequence[int]] = (),
) -> Tensors:
    """Compute every stage of a case.

    Args:
        kind: of the case.
        inputs: its input tensors.
        parameters: its parameters.
        prompts: of a conversation, the token ids of each row before expansion.

    Raises:
        InputError: inputs that the reference would refuse.
    """
    if kind == "image":
        return image_stages(inputs, parameters)
    if kind == "video":
        return video_stages(inputs["source_rgb"], parameters)
    if kind == "audio":
        return audio_stages(waveform(inputs))
    if kind == "masks":
        return mask_stages(inputs["token_types"], inputs["attention_mask"], parameters)
    return conversation_stages(inputs, parameters, prompts)


def image_stages(inputs: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Tensors:
    """Stages of an image, `source_rgb` among them if the input has alpha and an orientation."""
    if "source_rgb" in inputs:
        source, stages = inputs["source_rgb"], {}
    else:
        source = _upright(inputs["source_rgba"], orientation=int(inputs["orientation"][0]))
        stages = {"source_rgb": source}
    encoded = _encode(source[None], kind="image", budget=parameters["max_soft_tokens"])
    return stages | encoded | {name: encoded[name][0] for name in ("resized_rgb", "patches", "position_ids")}


def video_stages(frames: NDArray[np.uint8], parameters: Mapping[str, Any]) -> Tensors:
    """Stages of a video from all frames of its source."""
    given = parameters["frame_indices"]
    taken = sample_frame_indices(len(frames), num_frames=None if given else parameters["num_frames"])
    indices = given or taken.tolist()
    times = [divmod(int(time_s), 60) for time_s in frame_timestamps(indices, video_fps=parameters["fps"])]
    return {
        "frame_indices": np.array(indices, np.int32),
        "timestamps": np.array(times, np.int32),
        **_encode(frames[taken], kind="video", budget=parameters["max_soft_tokens"]),
    }


def audio_stages(samples: NDArray[np.float32]) -> Tensors:
    """Stages of a waveform."""
    frames = frame_waveform(samples)
    return {
        "frames": frames,
        "frames_mask": np.ones(len(frames), np.uint8),
        "soft_tokens": np.array([len(frames)], np.int32),
    }


def mask_stages(types: NDArray[np.int32], attention: NDArray[np.int32], parameters: Mapping[str, Any]) -> Tensors:
    """Both masks under every rule, and the prefill plan of each row."""
    stages: Tensors = {}
    for rule in RULES:
        masks = build_masks(types, attention_mask=attention, rule=rule, sliding_window=parameters["window"])
        stages[f"mask_sliding_{rule}"] = masks.mask_sliding[:, 0].view(np.uint8)
        stages[f"mask_global_{rule}"] = masks.mask_global[:, 0].view(np.uint8)
    segments = [segment for row, values in enumerate(types.tolist()) for segment in _segments(values, row=row)]
    plan = [
        (row, chunk.tokens.start, chunk.tokens.stop)
        for row in range(len(types))
        for chunk in plan_chunks(
            segments, max_chunk=parameters["max_chunk"], capacity=types.shape[1], row=row, oversize="own_chunk"
        )
    ]
    return stages | {"chunk_plan": np.array(plan, np.int32)}


def conversation_stages(
    inputs: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any], prompts: Sequence[Sequence[int]]
) -> Tensors:
    """Token rows and the tensors of all media."""
    by_kind: dict[str, list[Tensors]] = {"image": [], "video": [], "audio": []}
    for medium in parameters["media"]:
        value, kind = inputs[medium["input"]], medium["kind"]
        if kind == "image":
            by_kind[kind].append(image_stages({"source_rgb": value}, medium))
        elif kind == "video":
            by_kind[kind].append(video_stages(value, medium))
        else:
            by_kind[kind].append(audio_stages(value))
    stages = _token_rows(prompts, by_kind)
    if images := by_kind["image"]:
        stages["pixel_values"] = np.stack([image["patches"] for image in images])
        stages["image_position_ids"] = np.stack([image["position_ids"] for image in images])
    if videos := by_kind["video"]:
        stages["pixel_values_videos"] = np.concatenate([video["patches"] for video in videos])
        stages["video_position_ids"] = np.concatenate([video["position_ids"] for video in videos])
        stages["num_frames_per_video"] = np.array([len(video["frame_indices"]) for video in videos], np.int32)
    if audios := by_kind["audio"]:
        batch = batch_frames([audio["frames"].reshape(-1) for audio in audios])
        stages["input_features"] = batch.features
        stages["input_features_mask"] = batch.mask.view(np.uint8)
    return stages


def _token_rows(prompts: Sequence[Sequence[int]], by_kind: Mapping[str, Sequence[Tensors]]) -> Tensors:
    tokens = TokenIds()
    soft = {tokens.image: "image", tokens.video: "video", tokens.audio: "audio"}
    counts = {
        kind: iter([count for stages in items for count in stages["soft_tokens"].tolist()])
        for kind, items in by_kind.items()
    }
    rows = []
    for ids in prompts:
        kinds: list[Any] = [soft[token] for token in ids if token in soft]
        runs = [SoftRun(kind=kind, item=0, n_tokens=next(counts[kind])) for kind in kinds]
        rows.append(expand_placeholders(np.array(ids, np.int64), runs, tokens=tokens))
    length = max(len(row.ids) for row in rows)
    types, attention = (np.zeros((len(rows), length), np.int32) for _ in range(2))
    token_ids = np.full((len(rows), length), tokens.pad, np.int32)
    for place, row in enumerate(rows):
        start = length - len(row.ids)
        token_ids[place, start:], types[place, start:], attention[place, start:] = row.ids, row.types, 1
    return {"token_ids": token_ids, "token_types": types, "attention_mask": attention}


def _encode(frames: NDArray[np.uint8], *, kind: str, budget: int) -> Tensors:
    """Stages after the source of images of one size, all with a first axis for the images."""
    n_frames, height_px, width_px, _ = frames.shape
    grid = plan_image(height_px=height_px, width_px=width_px, max_soft_tokens=budget)
    resized = np.stack([resize_rgb(ArrayRows(frame), grid=grid) for frame in frames])
    patches = np.zeros((n_frames, budget, PATCH_VALUES), np.float32)
    for rows, frame in zip(patches, resized, strict=True):
        rows[: grid.n_tokens] = merge_patches(frame, rescale=_RESCALE[kind])
    positions = np.full((n_frames, budget, 2), -1, np.int32)
    positions[:, : grid.n_tokens] = position_ids(grid)
    return {
        "target_size": np.array([grid.height_px, grid.width_px], np.int32),
        "resized_rgb": resized,
        "patches": patches,
        "position_ids": positions,
        "soft_tokens": np.full(n_frames, grid.n_tokens, np.int32),
    }


def _upright(rgba: NDArray[np.uint8], *, orientation: int) -> NDArray[np.uint8]:
    image = require("PIL.Image").fromarray(rgba)
    rows = pillow.as_rows(image, name="source_rgba", orientation=orientation, profile=_PROFILE)
    return np.array(rows.rows(0, rows.height_px))


def _segments(types: Sequence[int], *, row: int) -> list[Segment]:
    """One segment a token: a plan cuts at blocks, which are found from the types alone."""
    kinds: tuple[Any, ...] = ("text", "image", "video", "audio")
    return [
        Segment(kind=kinds[value], row=row, start=place, stop=place + 1, item=0 if value else None)
        for place, value in enumerate(types)
    ]
