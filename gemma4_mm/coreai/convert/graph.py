"""The four functions of a bundle as torch modules around Hugging Face's own layers.

With `export` and `quantize` the part of the package that needs torch in order to be imported: `convert` imports them
after asking for the extra. Hugging Face's `language_model`, `embed_vision` and `embed_audio` run unmodified; what is
added is the KV cache in two state tensors, the masks, and the splice of multimodal embeddings. Source: transformers
5.24 `modeling_gemma4_unified`.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

MASKED_SCORE: Final = -1e9  # finite, as -inf would turn a row without any visible key into NaN


class StateCache:
    """The part of Hugging Face's `Cache` that attention calls, over two state tensors `(layers, 1, heads, C, width)`.

    Layers of different head counts and widths share one shape: a layer's heads are laid end to end, padded with
    zeros and cut into the state's heads. Updates are functional (`slice_scatter` on locals, one `copy_` at the end),
    since slice writes into a state convert but fail at run time.
    """

    def __init__(self, keys: Tensor, values: Tensor, *, past: int, stop: int) -> None:
        self._states = (keys, values)
        self._written: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._past = past
        self._stop = stop

    def update(self, keys: Tensor, values: Tensor, layer: int, **_: Any) -> tuple[Tensor, Tensor]:
        """Append `(1, heads, q, width)` and return all `(1, heads, stop, width)`; layers come in order."""
        cached = []
        for state, written, new in zip(self._states, self._written, (keys, values), strict=True):
            packed = _pack(new, heads=state.shape[2], width=state.shape[4]).to(state.dtype)
            full = torch.ops.aten.slice_scatter(state[layer], packed, 2, self._past, self._stop, 1)
            written.append(full)
            visible = _unpack(full[:, :, : self._stop], heads=new.shape[1], width=new.shape[3])
            cached.append(visible.to(new.dtype))
        return cached[0], cached[1]

    def get_seq_length(self) -> int:
        """Tokens before this call."""
        return self._past

    def commit(self) -> None:
        """Write every layer back into the two states."""
        for state, written in zip(self._states, self._written, strict=True):
            state.copy_(torch.stack(written))


class Decoder(nn.Module):
    """What `main` and `prefill_multimodal` share: the language model, its head and its softcap."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        text = model.config.text_config
        self.language_model = model.model.language_model
        self.lm_head = model.lm_head
        self.softcap: float | None = text.final_logit_softcapping
        self.window: int = text.sliding_window
        self.pad_id: int = text.pad_token_id
        self.placeholder_ids: tuple[int, ...] = (
            model.config.image_token_id,
            model.config.video_token_id,
            model.config.audio_token_id,
        )

    def embed(self, input_ids: Tensor, spliced: Tensor | None = None) -> Tensor:
        """Look up text embeddings; placeholder ids, and the rows that `spliced` marks, get the padding token's.

        Hugging Face replaces placeholder ids in every forward pass, hence also one that was sampled.
        """
        replaced = torch.zeros_like(input_ids, dtype=torch.bool) if spliced is None else spliced
        for placeholder in self.placeholder_ids:
            replaced = replaced | (input_ids == placeholder)
        table = self.language_model.embed_tokens
        rows = nn.functional.embedding(torch.where(replaced, self.pad_id, input_ids), table.weight)
        scaled: Tensor = rows.float() * table.embed_scale.float()  # gathered first: the table itself is never widened
        return scaled

    def decode(
        self, embeds: Tensor, position_ids: Tensor, sliding: Tensor, full: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Run all layers over the new tokens; float32 logits `(1, q, vocabulary)`."""
        queries, positions = embeds.shape[1], position_ids.shape[1]
        cache = StateCache(keys, values, past=positions - queries, stop=positions)
        masks = {"sliding_attention": _additive(sliding), "full_attention": _additive(full)}
        arguments = {
            "inputs_embeds": embeds,
            "position_ids": position_ids[:, positions - queries :],
            "attention_mask": masks,
            "cache": cache,
            "use_cache": True,
        }
        hidden = call_widened(self.language_model, **arguments).last_hidden_state
        cache.commit()
        logits: Tensor = call_widened(self.lm_head, hidden)
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


class Main(Decoder):
    """`main`: text prefill and decode, masks built in the graph."""

    def forward(self, input_ids: Tensor, position_ids: Tensor, keyCache: Tensor, valueCache: Tensor) -> Tensor:  # noqa: N803
        """Return logits; a query sees itself and what precedes it, sliding layers the last `window` of these."""
        offset = position_ids.shape[1] - input_ids.shape[1]
        queries, keys = position_ids[:, None, offset:, None], position_ids[:, None, None, :]
        causal = keys <= queries
        sliding = causal & (keys > queries - self.window)
        return self.decode(self.embed(input_ids), position_ids, sliding, causal, keyCache, valueCache)


class PrefillMultimodal(Decoder):
    """`prefill_multimodal`: as `main`, with embeddings spliced in and masks given."""

    def forward(
        self,
        input_ids: Tensor,
        mm_embeds: Tensor,
        mm_mask: Tensor,
        position_ids: Tensor,
        mask_sliding: Tensor,
        mask_global: Tensor,
        keyCache: Tensor,  # noqa: N803
        valueCache: Tensor,  # noqa: N803
    ) -> Tensor:
        """Return logits; `mm_embeds` replace the text embeddings where `mm_mask` is true."""
        embeds = torch.where(mm_mask[..., None], mm_embeds, self.embed(input_ids, mm_mask))
        return self.decode(embeds, position_ids, mask_sliding, mask_global, keyCache, valueCache)


class EmbedVision(nn.Module):
    """`embed_vision`: merged patches of one image or frame to soft tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.embedder = model.model.embed_vision

    def forward(self, pixel_values: Tensor, image_position_ids: Tensor) -> Tensor:
        """Return float32 `(1, P, hidden)`."""
        embeds: Tensor = call_widened(self.embedder, pixel_values, image_position_ids).pooler_output
        return embeds


class EmbedAudio(nn.Module):
    """`embed_audio`: 640-sample frames to soft tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.embedder = model.model.embed_audio

    def forward(self, input_features: Tensor) -> Tensor:
        """Return float32 `(1, T, hidden)`."""
        embeds: Tensor = call_widened(self.embedder, input_features)
        return embeds


def call_widened(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Call `module` with its bfloat16 parameters as float32, a cast inside the graph.

    bfloat16 storage is lossless for a bfloat16 checkpoint, while bfloat16 arithmetic would not match the reference.
    """
    stored = {name: value for name, value in module.named_parameters() if value.dtype == torch.bfloat16}
    if not stored:
        return module(*args, **kwargs)
    widened = {name: value.float() for name, value in stored.items()}
    return torch.func.functional_call(module, widened, args, kwargs)


def _additive(mask: Tensor) -> Tensor:
    return torch.where(mask, 0.0, MASKED_SCORE)


def _pack(heads_first: Tensor, *, heads: int, width: int) -> Tensor:
    """`(1, h, q, w)` to the state's `(1, heads, q, width)`, h·w ≤ heads·width, padded with zeros at the end."""
    flat = heads_first.transpose(1, 2).flatten(2)
    missing = heads * width - flat.shape[2]
    if missing:
        flat = nn.functional.pad(flat, (0, missing))
    return flat.reshape(*flat.shape[:2], heads, width).transpose(1, 2)


def _unpack(packed: Tensor, *, heads: int, width: int) -> Tensor:
    """The inverse of `_pack`."""
    flat = packed.transpose(1, 2).flatten(2)
    return flat[..., : heads * width].reshape(*flat.shape[:2], heads, width).transpose(1, 2)
