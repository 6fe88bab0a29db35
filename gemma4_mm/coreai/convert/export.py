"""Trace the four functions with `torch.export` and convert them into one `.aimodel`."""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gemma4_mm.coreai.convert.graph import EmbedAudio, EmbedVision, Main, PrefillMultimodal
from gemma4_mm.coreai.run.runtime import FunctionName
from gemma4_mm.optional import require

KEY_STATE: Final = "keyCache"  # the names that the user's bundle and Apple's own exports use
VALUE_STATE: Final = "valueCache"
_TRACE_QUERIES: Final = 24  # traced sizes differ and none is 1, or torch.export would merge or fix the dimensions
_TRACE_POSITIONS: Final = 32
_MAX_AUDIO_TOKENS: Final = 1 << 16  # 43 minutes; only a bound that torch.export asks for
_LOG: Final = logging.getLogger("gemma4_mm.coreai")


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """One function to export.

    Attributes:
        name: entry point in the asset.
        module: what computes it; keyword arguments are the inputs, then the states.
        example: one tensor per argument, in order; sizes as traced.
        dynamic: per argument, the dynamic axes; None for a static one.
        outputs: names of the returned tensors.
        states: the arguments that the runtime mutates.
    """

    name: FunctionName
    module: nn.Module
    example: dict[str, Tensor]
    dynamic: dict[str, dict[int, Any] | None]
    outputs: tuple[str, ...]
    states: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Arguments that are not states."""
        return tuple(name for name in self.example if name not in self.states)


def plan_exports(model: Any, *, context_length: int, states: Literal["float32", "bfloat16"]) -> tuple[ExportPlan, ...]:
    """Plan the four functions of `model`, a `Gemma4UnifiedForConditionalGeneration` with eager attention.

    Args:
        model: its parameters may be float32, bfloat16 (widened in the graph) or parametrised by a quantiser.
        context_length: rows C of the KV states.
        states: element type of the KV states.
    """
    queries = torch.export.Dim("q", min=1, max=context_length - 2)
    positions = torch.export.Dim("t", min=2, max=context_length - 1)
    ids = {
        "input_ids": torch.ones(1, _TRACE_QUERIES, dtype=torch.int32),
        "position_ids": torch.arange(_TRACE_POSITIONS, dtype=torch.int32)[None],
    }
    dtype = torch.bfloat16 if states == "bfloat16" else torch.float32
    memory = {name: kv_state(model, context_length, dtype) for name in (KEY_STATE, VALUE_STATE)}
    mask = torch.ones(1, 1, _TRACE_QUERIES, _TRACE_POSITIONS, dtype=torch.bool)
    hidden = model.config.text_config.hidden_size
    shared: dict[str, Any] = {"outputs": ("logits",), "states": tuple(memory)}
    static = dict.fromkeys(memory)
    return (
        ExportPlan(
            name="main",
            module=Main(model),
            example={**ids, **memory},
            dynamic={"input_ids": {1: queries}, "position_ids": {1: positions}, **static},
            **shared,
        ),
        ExportPlan(
            name="prefill_multimodal",
            module=PrefillMultimodal(model),
            example={
                "input_ids": ids["input_ids"],
                "mm_embeds": torch.zeros(1, _TRACE_QUERIES, hidden),
                "mm_mask": torch.zeros(1, _TRACE_QUERIES, dtype=torch.bool),
                "position_ids": ids["position_ids"],
                "mask_sliding": mask,
                "mask_global": mask.clone(),
                **memory,
            },
            dynamic={
                "input_ids": {1: queries},
                "mm_embeds": {1: queries},
                "mm_mask": {1: queries},
                "position_ids": {1: positions},
                "mask_sliding": {2: queries, 3: positions},
                "mask_global": {2: queries, 3: positions},
                **static,
            },
            **shared,
        ),
        *_plan_embedders(model),
    )


def kv_state(model: Any, context_length: int, dtype: torch.dtype) -> Tensor:
    """Zeros in the shape of one KV state: `(layers, 1, heads, context_length, width)`."""
    text = model.config.text_config
    layers = text.num_hidden_layers - text.num_kv_shared_layers
    shapes = [text.per_layer_config[layer] for layer in range(layers)]
    width = min(shape.head_dim for shape in shapes)
    heads = -(-max(shape.num_key_value_heads * shape.head_dim for shape in shapes) // width)
    return torch.zeros(layers, 1, heads, context_length, width, dtype=dtype)


def _plan_embedders(model: Any) -> tuple[ExportPlan, ExportPlan]:
    vision, audio = model.config.vision_config, model.config.audio_config
    patches = torch.export.Dim("p", min=1, max=vision.mm_posemb_size)
    frames = torch.export.Dim("a", min=1, max=_MAX_AUDIO_TOKENS)
    return (
        ExportPlan(
            name="embed_vision",
            module=EmbedVision(model),
            example={
                "pixel_values": torch.zeros(1, _TRACE_QUERIES, vision.model_patch_size**2 * 3),
                "image_position_ids": torch.zeros(1, _TRACE_QUERIES, 2, dtype=torch.int32),
            },
            dynamic={"pixel_values": {1: patches}, "image_position_ids": {1: patches}},
            outputs=("embeds",),
        ),
        ExportPlan(
            name="embed_audio",
            module=EmbedAudio(model),
            example={"input_features": torch.zeros(1, _TRACE_QUERIES, audio.audio_embed_dim)},
            dynamic={"input_features": {1: frames}},
            outputs=("embeds",),
        ),
    )


@contextlib.contextmanager
def eager_inference(model: Any) -> Iterator[None]:
    """Evaluation mode, no gradients, and the attention that exports: masks are added to the scores."""
    model.eval()
    model.model.language_model.set_attn_implementation("eager")
    with torch.no_grad():
        yield


def run_plans(
    plans: Sequence[ExportPlan], probes: Mapping[FunctionName, Mapping[str, NDArray[Any]]]
) -> dict[FunctionName, NDArray[np.float32]]:
    """What torch computes on `probes`, states empty, without the batch axis."""
    outputs: dict[FunctionName, NDArray[np.float32]] = {}
    for plan in plans:
        inputs = {name: torch.from_numpy(value)[None] for name, value in probes[plan.name].items()}
        if plan.states:
            queries = inputs["input_ids"].shape[1]
            inputs["position_ids"] = torch.arange(queries)[None]
            inputs |= {name: inputs[name][None] for name in inputs if name.startswith("mask_")}
            inputs |= {name: torch.zeros_like(plan.example[name]) for name in plan.states}
        outputs[plan.name] = plan.module(**inputs)[0].numpy()
    return outputs


def save_asset(plans: Sequence[ExportPlan], path: Path) -> None:
    """Export, convert and write `path`; the functions share their weights in it.

    The converter's progress display on stdout becomes one debug message.
    """
    coreai_torch = require("coreai_torch", extra="coreai-convert")
    converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
    for plan in plans:
        program = torch.export.export(
            plan.module.eval(), args=(), kwargs=plan.example, dynamic_shapes=plan.dynamic, strict=False
        )
        converter.add_exported_program(
            program.run_decompositions(coreai_torch.get_decomp_table()),
            input_names=plan.inputs,
            output_names=plan.outputs,
            state_names=plan.states,
            entrypoint_name=plan.name,
        )
    display = io.StringIO()
    with contextlib.redirect_stdout(display):
        converter.to_coreai().save_asset(path)
    _LOG.debug("%s", display.getvalue())
