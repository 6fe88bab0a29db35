"""Mistakes with attention masks: the wrong rule or layer, the window, the blocks, the padding."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.formulas import LAYERS, dense_mask, number_blocks
from gemma4_mm.conformance.suspects.scene import Scene, Theory
from gemma4_mm.spec import TYPE_AUDIO, TYPE_IMAGE, TYPE_TEXT, MaskRule

Mask = NDArray[np.uint8]
_STAGES: Final = tuple(f"mask_{layer}_{rule}" for layer in LAYERS for rule in get_args(MaskRule))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Request:
    """What a mask is made of, as a stage asks for it."""

    types: NDArray[np.int32]
    attention: NDArray[np.int32]
    window: int
    rule: str
    layer: str

    def mask(self, **changes: Any) -> Mask:
        """The mask, with some of it changed."""
        values = {
            name: changes.get(name, getattr(self, name)) for name in ("types", "attention", "window", "rule", "layer")
        }
        return dense_mask(
            values["types"],
            values["attention"],
            rule=values["rule"],
            layer=values["layer"],
            sliding_window=values["window"],
        )


def _other_layer(request: _Request) -> Mask:
    return request.mask(layer="global" if request.layer == "sliding" else "sliding")


def _without_long_blocks(request: _Request) -> Mask:
    """Blocks longer than the window count as text."""
    blocks = number_blocks(request.types)
    types = request.types.copy()
    for row, numbers in enumerate(blocks):
        for block in range(int(numbers.max(initial=-1)) + 1):
            if (numbers == block).sum() > request.window:
                types[row, numbers == block] = TYPE_TEXT
    return request.mask(types=types)


def _blocks_by_type(request: _Request) -> Mask:
    """An image beside a video frame counts as two blocks."""
    types = request.types
    right = request.mask()
    both = (
        (types[:, :, None] != types[:, None, :])
        & np.isin(types, (1, 2))[:, :, None]
        & np.isin(types, (1, 2))[:, None, :]
    )
    causal = request.mask(types=np.zeros_like(types))
    return np.where(both, causal, right)


def _one_block(request: _Request) -> Mask:
    """Every vision token in the same block."""
    return _with_pairs(request, request.types > TYPE_TEXT, request.types != TYPE_AUDIO)


def _text_in_blocks(request: _Request) -> Mask:
    """Tokens outside of blocks together, as block number 0."""
    outside = ~np.isin(request.types, (1, 2))
    return _with_pairs(request, outside, outside)


def _with_pairs(request: _Request, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Mask:
    """The mask with all pairs of tokens that both tests hold for, where its layer and rule show blocks."""
    chosen = first & second
    pairs = chosen[:, :, None] & chosen[:, None, :]
    # A row of one block shows what the rule makes of a block: everything that its window leaves.
    whole = request.mask(types=np.full_like(request.types, TYPE_IMAGE))
    return np.where(pairs, whole, request.mask()).astype(np.uint8)


def _video_as_text(request: _Request) -> Mask:
    return request.mask(types=np.where(request.types == TYPE_IMAGE, TYPE_IMAGE, TYPE_TEXT).astype(np.int32))


_CHANGES: Final[Mapping[str, tuple[str, Callable[[_Request], Mask]]]] = {
    "other-layer": ("the other kind of layer's mask: the same mask on both", _other_layer),
    "overlay-dropped": (
        "the vision overlay dropped: blocks treated as text",
        lambda r: r.mask(types=np.zeros_like(r.types)),
    ),
    "window-too-long": ("the window off by one: one key too many", lambda r: r.mask(window=r.window + 1)),
    "window-too-short": ("the window off by one: one key too few", lambda r: r.mask(window=max(r.window - 1, 1))),
    "window-ignored": ("the sliding window ignored", lambda r: r.mask(window=r.types.shape[1] + 1)),
    "long-blocks-dropped": ("blocks longer than the window lose their whole overlay", _without_long_blocks),
    "audio-in-blocks": (
        "audio tokens in vision blocks",
        lambda r: r.mask(types=np.where(r.types == TYPE_AUDIO, TYPE_IMAGE, r.types).astype(np.int32)),
    ),
    "video-as-text": ("video frames without an overlay", _video_as_text),
    "blocks-by-type": ("an image beside a video frame taken for two blocks", _blocks_by_type),
    "padding-visible": ("padding visible as a key", lambda r: r.mask(attention=np.ones_like(r.attention))),
    "queries-as-keys": ("queries and keys exchanged", lambda r: r.mask().swapaxes(1, 2)),
    "inverted": ("1 for hidden instead of visible", lambda r: np.uint8(1) - r.mask()),
    "visible-as-255": ("255 for visible instead of 1", lambda r: np.uint8(255) * r.mask()),
    "one-block": ("all images and frames in one block, whatever stands between them", _one_block),
    "text-in-blocks": ("text in blocks, too: two tokens outside of blocks see each other", _text_in_blocks),
    "padding-queries-hidden": (
        "padding hidden as queries, too: their rows are empty",
        lambda r: r.mask() * (r.attention != 0).astype(np.uint8)[:, :, None],
    ),
    "no-mask": ("every key visible", lambda r: np.ones_like(r.mask())),
}


def _request(scene: Scene, stage: str) -> _Request:
    _, layer, rule = stage.split("_")
    inputs = scene.case.inputs
    window = scene.case.options["sliding_window"]
    return _Request(
        types=inputs["token_types"], attention=inputs["attention_mask"], window=window, rule=rule, layer=layer
    )


def _theory(name: str, words: str, make: Callable[[_Request], Mask]) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:
        return make(_request(scene, stage))

    return Theory(name=name, words=words, kinds=("masks",), stages=_STAGES, compute=compute)


def _rule_theory(rule: str) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:
        request = _request(scene, stage)
        return None if request.rule == rule else request.mask(rule=rule)

    words = f"the rule {rule} in place of the one asked for"
    return Theory(name=f"rule-{rule}", words=words, kinds=("masks",), stages=_STAGES, compute=compute)


MASK_THEORIES: Final = (
    *(_theory(name, *row) for name, row in _CHANGES.items()),
    *map(_rule_theory, get_args(MaskRule)),
)
