"""The oracle's process: Hugging Face's own processor and masks, case by case. Run it as a script, under any Python.

    python worker.py TOKENIZER_DIRECTORY

It needs numpy, safetensors, Pillow, torch, torchvision and transformers, soundfile and soxr or librosa for sound files,
and nothing of the package that it is part of but the two modules beside it. `serve` says how it is talked to.
"""

import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

# A script's own directory is on its path; under mypy it is a package's.
serve: Any = importlib.import_module("serve")

_PACKAGES = ("numpy", "safetensors", "torch", "torchvision", "transformers")
_TIMESTAMP = re.compile(r"(\d+):(\d\d) <\|image>")
_VIDEO_TOKEN = 258_884


class Oracle:
    """Hugging Face's processor over the files of a directory, and its two mask functions."""

    def __init__(self, directory: Path) -> None:
        from transformers.models.gemma.tokenization_gemma import GemmaTokenizer

        self._given: Any = importlib.import_module("given")
        model = importlib.import_module("transformers.models.gemma4_unified")
        self.processor = model.Gemma4UnifiedProcessor(
            feature_extractor=model.Gemma4UnifiedAudioFeatureExtractor(),
            image_processor=model.Gemma4UnifiedImageProcessor(),
            tokenizer=GemmaTokenizer.from_pretrained(directory),
            video_processor=model.Gemma4UnifiedVideoProcessor(),
            chat_template=(directory / "chat_template.jinja").read_text(encoding="utf-8"),
        )

    def stages(self, case: Mapping[str, Any], inputs: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Arrays by stage name; dtypes uint8, int32 and float32."""
        steps: dict[str, Callable[..., dict[str, Any]]] = {
            "image": self._image,
            "video": self._video,
            "audio": self._audio,
            "conversation": self._conversation,
            "masks": _masks,
        }
        return steps[case["kind"]](inputs, case["options"], folder)

    def _image(self, inputs: Mapping[str, Any], options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        value = self._given.image_argument(inputs, options, folder)
        budget = options.get("max_soft_tokens", 280)
        with _watching(self.processor.image_processor) as seen:
            tensors = self.processor(images=value, max_soft_tokens=budget, return_tensors="np")
        (source, resized) = seen[-1]
        return {
            "source_rgb": _channels_last(source),
            "target_size": _int32(resized.shape[-2:]),
            "resized_rgb": _channels_last(resized),
            "patches": tensors["pixel_values"][0],
            "position_ids": _int32(tensors["image_position_ids"][0]),
            "soft_tokens": _int32([(tensors["mm_token_type_ids"] == 1).sum()]),
        }

    def _video(self, inputs: Mapping[str, Any], options: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG002
        frames, arguments = inputs["frames"], self._given.video_arguments(options)
        said = self._given.video_metadata(inputs, options)
        if said is not None:
            arguments["video_metadata"] = [said]
        with _watching(self.processor.video_processor) as seen:
            tensors = self.processor(text="<|video|>", videos=[frames], return_tensors="np", **_fresh(arguments))
        resized = seen[-1][1]
        chosen = self.processor.video_processor(
            [frames], return_metadata=True, return_tensors="np", **_fresh(arguments)
        )
        ids = tensors["input_ids"][0].tolist()
        text = self.processor.tokenizer.decode(ids, skip_special_tokens=False)
        patches = tensors["pixel_values_videos"]
        return {
            "frame_indices": _int32(chosen["video_metadata"][0].frames_indices),
            "timestamps": _int32([[int(m), int(s)] for m, s in _TIMESTAMP.findall(text)]),
            "target_size": _int32(resized.shape[-2:]),
            "resized_rgb": _channels_last(resized),
            "patches": patches.reshape(len(resized), -1, patches.shape[-1]),
            "position_ids": _int32(tensors["video_position_ids"]).reshape(len(resized), -1, 2),
            "soft_tokens": _int32([len(list(run)) for is_video, run in groupby(ids, _VIDEO_TOKEN.__eq__) if is_video]),
        }

    def _audio(self, inputs: Mapping[str, Any], options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        value = self._given.audio_argument(inputs, options, folder)
        arguments = {"max_length": options["max_length"]} if "max_length" in options else {}
        stages: dict[str, Any] = {}
        if isinstance(value, str):
            stages["pcm"] = value = _load_audio(value)
        tensors = self.processor(text="<|audio|>", audio=[value], audio_kwargs=arguments, return_tensors="np")
        return stages | {
            "frames": tensors["input_features"][0],
            "frames_mask": tensors["input_features_mask"][0].astype("uint8"),
            "soft_tokens": _int32([(tensors["mm_token_type_ids"] == 3).sum()]),
        }

    def _conversation(self, inputs: Mapping[str, Any], options: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG002
        import numpy as np

        messages, arguments = options["messages"], options["arguments"]
        tensors = self.processor.apply_chat_template(
            self._given.build_messages(messages, inputs),
            tokenize=True,
            return_dict=True,
            return_tensors="np",
            **_fresh(arguments),
        )
        stages: dict[str, Any] = {}
        if not arguments.get("sanitize_control_tokens"):
            text = self.processor.apply_chat_template(self._given.build_messages(messages, inputs), **_fresh(arguments))
            stages["prompt"] = np.frombuffer((text if isinstance(text, str) else "\0".join(text)).encode(), np.uint8)
        names = {"input_ids": "token_ids", "mm_token_type_ids": "token_types"}
        for key, value in tensors.items():
            array = np.asarray(value)
            if array.dtype != np.float32 or key == "mm_token_type_ids":
                array = array.astype(np.uint8 if array.dtype == bool else np.int32)
            stages[names.get(key, key)] = array
        return stages


@contextmanager
def _watching(processor: Any) -> Iterator[list[tuple[Any, Any]]]:
    """Note what goes into the processor's own resize, and what comes out of it."""
    seen: list[tuple[Any, Any]] = []
    original = processor.aspect_ratio_preserving_resize

    def resize(*args: Any, **kwargs: Any) -> Any:
        source = args[0] if args else kwargs.get("image", kwargs.get("video"))
        resized = original(*args, **kwargs)
        seen.append((source, resized))
        return resized

    processor.aspect_ratio_preserving_resize = resize
    try:
        yield seen
    finally:
        del processor.aspect_ratio_preserving_resize


def _load_audio(path: str) -> Any:
    """Samples at 16 kHz through soundfile and soxr, whatever other decoders are installed."""
    from transformers import audio_utils

    if "backend" in inspect.signature(audio_utils.load_audio).parameters:
        try:
            return audio_utils.load_audio(path, sampling_rate=16_000, backend="soundfile")
        except ValueError as error:
            if "soundfile" not in str(error):
                raise
    return importlib.import_module("librosa").load(path, sr=16_000)[0]  # what earlier releases call


def _masks(inputs: Mapping[str, Any], options: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001
    """Both rules of both layers, as far as this release has them; True where a query attends to a key."""
    modeling = importlib.import_module("transformers.models.gemma4_unified.modeling_gemma4_unified")
    rules = ("forward", "static") if hasattr(modeling, "create_masks_for_vision_model") else ("forward",)
    stages: dict[str, Any] = {}
    for rule in rules:
        masks = _make_masks(inputs, options["sliding_window"], rule=rule, implementation="sdpa")
        if None in masks.values():  # sdpa passes "causal" as a flag; the eager masks are always written out
            eager = _make_masks(inputs, options["sliding_window"], rule=rule, implementation="eager")
            masks = {layer: eager[layer] == 0 if mask is None else mask for layer, mask in masks.items()}
        for layer, name in (("sliding_attention", "sliding"), ("full_attention", "global")):
            stages[f"mask_{name}_{rule}"] = masks[layer][:, 0].numpy().astype("uint8")
    return stages


def _make_masks(inputs: Mapping[str, Any], window: int, *, rule: str, implementation: str) -> dict[str, Any]:
    import torch
    from transformers import masking_utils

    modeling = importlib.import_module("transformers.models.gemma4_unified.modeling_gemma4_unified")
    configuration = importlib.import_module("transformers.models.gemma4_unified.configuration_gemma4_unified")
    config = configuration.Gemma4UnifiedTextConfig(
        num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], sliding_window=window
    )
    config._attn_implementation = implementation
    types = torch.from_numpy(inputs["token_types"]).long()
    batch, length = types.shape
    wanted = inspect.signature(masking_utils.create_masks_for_generate).parameters
    arguments = {
        "config": config,
        "inputs_embeds": torch.zeros(batch, length, 1),
        "attention_mask": torch.from_numpy(inputs["attention_mask"]).long(),
        "cache" if "cache" in wanted else "past_key_values": None,
        "position_ids": torch.arange(length)[None],
    }
    if rule == "forward":
        blocks = modeling.get_block_sequence_ids_for_mask(types, device=types.device)
        made = masking_utils.create_masks_for_generate(**arguments, block_sequence_ids=blocks)
    else:
        model = modeling.Gemma4UnifiedForConditionalGeneration
        made = model.create_masks_for_generate(**arguments, mm_token_type_ids=types)
    return dict(made)


def _channels_last(tensor: Any) -> Any:
    """Uint8 `(…, height, width, 3)` of a tensor `(…, 3, height, width)`."""
    return tensor.movedim(-3, -1).contiguous().numpy()


def _int32(values: Any) -> Any:
    import numpy as np

    return np.asarray(values).astype(np.int32)


def _fresh(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that the callee may change."""
    copied: dict[str, Any] = json.loads(json.dumps(arguments))
    return copied


def _begin() -> tuple[Callable[..., Mapping[str, Any]], dict[str, str]]:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch

    torch.set_num_threads(1)  # the subject computes at the same time
    oracle = Oracle(Path(sys.argv[1]))
    versions = {name: str(importlib.import_module(name).__version__) for name in _PACKAGES}
    versions["pillow"] = str(importlib.import_module("PIL").__version__)
    versions["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    return oracle.stages, versions


if __name__ == "__main__":
    serve.serve(_begin)
