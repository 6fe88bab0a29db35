"""A fixture as a case of the harness again, so that a comparison can say what a difference looks like."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.golden.manifest import CaseEntry
from gemma4_mm.conformance.records import Case

Inputs = Mapping[str, NDArray[Any]]
_OPAQUE: Final = 255


def as_case(name: str, entry: CaseEntry, inputs: Inputs) -> Case:
    """The case of a fixture, in the form of `conformance.cases`.

    The messages of a conversation are not in a fixture: its `messages` are empty.
    """
    arrays, options = _FORMS[entry.kind](inputs, dict(entry.parameters))
    return Case(name=name, kind=entry.kind, inputs=arrays, options=options, summary=entry.about)


def waveform(inputs: Inputs) -> NDArray[np.float32]:
    """Samples of an audio, float32, from either form of its input."""
    if "pcm" in inputs:
        return inputs["pcm"]
    samples: NDArray[np.float32] = (inputs["pcm_u8"].astype(np.float32) - np.float32(128)) / np.float32(128)
    return samples


def _image(inputs: Inputs, parameters: dict[str, Any]) -> tuple[Inputs, dict[str, Any]]:
    if "source_rgb" in inputs:
        return {"pixels": inputs["source_rgb"]}, parameters
    rgba = inputs["source_rgba"]
    opaque = bool((rgba[..., 3] == _OPAQUE).all())
    turned = {
        "given_as": "file",
        "mode": "RGB" if opaque else "RGBA",
        "exif_orientation": int(inputs["orientation"][0]),
    }
    return {"pixels": rgba[..., :3] if opaque else rgba}, parameters | turned


def _video(inputs: Inputs, parameters: dict[str, Any]) -> tuple[Inputs, dict[str, Any]]:
    indices, wanted = parameters.pop("frame_indices"), parameters.pop("num_frames")
    chosen: dict[str, Any] = {"do_sample_frames": False} if wanted is None else {"num_frames": wanted}
    if indices is not None:
        chosen["frames_indices"] = indices
    return {"frames": inputs["source_rgb"]}, parameters | chosen


def _audio(inputs: Inputs, parameters: dict[str, Any]) -> tuple[Inputs, dict[str, Any]]:
    return {"samples": waveform(inputs)}, parameters


def _masks(inputs: Inputs, parameters: dict[str, Any]) -> tuple[Inputs, dict[str, Any]]:
    return inputs, {"sliding_window": parameters["window"], "max_chunk": parameters["max_chunk"]}


def _conversation(inputs: Inputs, parameters: dict[str, Any]) -> tuple[Inputs, dict[str, Any]]:  # noqa: ARG001
    return inputs, {"messages": [], "arguments": {}}


_FORMS = {"image": _image, "video": _video, "audio": _audio, "masks": _masks, "conversation": _conversation}
