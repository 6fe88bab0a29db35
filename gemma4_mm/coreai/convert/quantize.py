"""INT4 weights for the decoder and bfloat16 storage for the rest, in place on a Hugging Face model."""

from typing import Any, Final

import torch
from torch import Tensor, nn

from gemma4_mm.errors import InputError
from gemma4_mm.optional import require

BLOCK: Final = 32  # input channels that share a scale


class _LinearBank(nn.Module):
    """The linear layers to quantise, called once each on a dummy row: weight-only needs no activations.

    Only these are shown to the quantiser, so embeddings, norms and embedders stay as they are.
    """

    def __init__(self, linears: list[nn.Linear]) -> None:
        super().__init__()
        self.linears = nn.ModuleList(linears)

    def forward(self, row: Tensor) -> list[Tensor]:
        return [linear(row.expand(1, linear.in_features)) for linear in self._all()]

    def _all(self) -> list[nn.Linear]:
        return [linear for linear in self.linears if isinstance(linear, nn.Linear)]


def quantize_decoder(model: Any) -> None:
    """Replace every linear weight of the decoder and its head by int4 values with one scale a block of 32.

    Symmetric with clipping. The head is untied from the embedding table first, which stays exact. Afterwards a
    layer's `.weight` is the dequantised one, so the model itself is the reference for what the asset computes.

    Args:
        model: `Gemma4UnifiedForConditionalGeneration` in float32; changed in place.

    Raises:
        InputError: a layer whose input width is not a multiple of 32.
    """
    optimizer = require("coreai_opt.quantization", extra="coreai-convert")
    specs = require("coreai_opt.quantization.spec", extra="coreai-convert")
    common = require("coreai_opt.common", extra="coreai-convert")
    _untie_head(model)
    linears = [module for module in model.model.language_model.modules() if isinstance(module, nn.Linear)]
    for linear in (*linears, model.lm_head):
        if linear.in_features % BLOCK:
            raise InputError(
                f"a decoder layer has {linear.in_features} input channels; int4 takes multiples of {BLOCK}; "
                "convert without it"
            )
    weights = specs.QuantizationSpec(
        dtype="int4",
        qscheme="symmetric_with_clipping",
        granularity=specs.PerBlockGranularity(axis=1, block_size=BLOCK),
    )
    config = optimizer.QuantizerConfig(
        execution_mode="eager",  # it parametrises the layers where they are
        global_config=optimizer.ModuleQuantizerConfig(
            op_input_spec=None, op_output_spec=None, op_state_spec={"weight": weights}
        ),
    )
    quantizer = optimizer.Quantizer(_LinearBank([*linears, model.lm_head]), config)
    quantizer.prepare((torch.zeros(1, 1),))
    quantizer.finalize(backend=common.ExportBackend.CoreAI)


def store_bfloat16(model: Any) -> None:
    """Keep every parameter that no quantiser holds in bfloat16: half the size, exact for a bfloat16 checkpoint."""
    for name, parameter in model.named_parameters():
        if "parametrizations" not in name:
            parameter.data = parameter.data.to(torch.bfloat16)


def _untie_head(model: Any) -> None:
    if model.lm_head.weight is model.model.language_model.embed_tokens.weight:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False
