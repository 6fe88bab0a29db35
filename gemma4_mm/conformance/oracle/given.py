"""Cases as the objects that people pass to a processor: pictures, files, waveforms, messages.

Both sides use it, so that both are given the same. The worker loads it beside itself, hence no import of the package.
"""

import base64
import copy
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[Any]]
Options = Mapping[str, Any]


def image_argument(inputs: Inputs, options: Options, folder: Path) -> Any:
    """The picture of an image case: a Pillow image, an array, or the path of a PNG written into `folder`."""
    if options.get("given_as") == "array":
        return inputs["pixels"]
    image = make_picture(inputs, options)
    if options.get("given_as") != "file":
        return image
    path = folder / "image.png"
    extra: dict[str, Any] = {}
    if "exif_orientation" in options:
        from PIL import Image

        extra["exif"] = Image.Exif()
        extra["exif"][0x0112] = options["exif_orientation"]
    if "icc_profile" in inputs:
        extra["icc_profile"] = inputs["icc_profile"].tobytes()
    image.save(path, compress_level=1, **extra)
    return str(path)


def make_picture(inputs: Inputs, options: Options) -> Any:
    """A Pillow image of the case's mode, palette and transparency."""
    from PIL import Image

    pixels, mode = inputs["pixels"], options.get("mode", "RGB")
    height, width = pixels.shape[:2]
    if mode == "1":
        return Image.fromarray(pixels * np.uint8(255)).convert("1", dither=Image.Dither.NONE)
    image = Image.frombytes(mode, (width, height), np.ascontiguousarray(pixels).tobytes())
    if "palette" in inputs:
        image.putpalette(inputs["palette"].tobytes())
    if "palette_alpha" in inputs:
        image.info["transparency"] = inputs["palette_alpha"].tobytes()
    elif "transparency" in options:
        colour = options["transparency"]
        image.info["transparency"] = tuple(colour) if isinstance(colour, list) else colour
    return image


def audio_argument(inputs: Inputs, options: Options, folder: Path) -> Any:
    """The sound of an audio case: samples, or the path of a WAV written into `folder`."""
    samples = inputs["samples"]
    if options.get("given_as") != "file":
        return samples
    import soundfile  # type: ignore[import-untyped]

    path = folder / "sound.wav"
    soundfile.write(path, samples, options["rate_hz"], subtype=options["subtype"])
    return str(path)


def video_metadata(inputs: Inputs, options: Options) -> dict[str, Any] | None:
    """What is said of the frames of a video case; None if nothing is."""
    if options.get("fps") is None:
        return None
    frames = inputs["frames"]
    metadata: dict[str, Any] = {"total_num_frames": len(frames), "fps": options["fps"]}
    if "frames_indices" in options:
        metadata["frames_indices"] = list(options["frames_indices"])
        metadata["total_num_frames"] = max(options["frames_indices"]) + 1
    return metadata


def video_arguments(options: Options) -> dict[str, Any]:
    """The keyword arguments of a call with the video of a case."""
    names = ("num_frames", "do_sample_frames", "max_soft_tokens")
    return {name: options[name] for name in names if name in options}


def build_messages(messages: Any, inputs: Inputs) -> Any:
    """A copy of a case's messages with its media in the places that refer to them."""
    if isinstance(messages, list):
        return [build_messages(item, inputs) for item in messages]
    if not isinstance(messages, dict):
        return copy.deepcopy(messages)
    if "$input" in messages:
        return _medium(inputs[messages["$input"]])
    if "$data_uri" in messages:
        memory = io.BytesIO()
        _medium(inputs[messages["$data_uri"]]).save(memory, "PNG")
        return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode()
    return {key: build_messages(value, inputs) for key, value in messages.items()}


def _medium(array: NDArray[Any]) -> Any:
    """Samples and frames as they are, a picture as Pillow's."""
    if array.ndim != 3:
        return array.copy()
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(array))
