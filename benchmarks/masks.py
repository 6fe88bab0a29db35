"""Speed and memory of the masks, equality first: `python -m benchmarks.masks`.

Both masks of a 4096-token prompt with images, against the reference's two and against filling two arrays of that size;
all sides run interleaved in one process, and the shortest run of each counts. The reference has the better of one and
two torch threads. Then the specification of 262,144 tokens, and the rows of its last 512.
"""

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.attention.masks import MaskSpecs, build_masks, describe_masks
from gemma4_mm.spec import SLIDING_WINDOW, TYPE_IMAGE, MaskRule

RULE_NAMES: Final[tuple[MaskRule, ...]] = ("forward", "static")
N_TOKENS: Final = 4096
N_LONG: Final = 262_144
N_ROWS: Final = 512
_PADDING: Final = 16  # on the left: without padding the reference writes only one of the static rule's two masks
_LEAST_HF_RATIO: Final = 10.0
_MOST_FILL_RATIO: Final = 3.0
_MOST_SPEC_MS: Final = 20.0
_MOST_SPEC_MB: Final = 16.0


def image_prompt(n_tokens: int) -> NDArray[np.int64]:
    """Types `(1, n_tokens)` of images of 256 to 280 soft tokens with 8 to 40 text tokens between them."""
    generator = np.random.default_rng(0)
    types = np.zeros((1, n_tokens), np.int64)
    place = 2 * _PADDING
    while (stop := place + int(generator.integers(256, 281))) < n_tokens:
        types[0, place:stop] = TYPE_IMAGE
        place = stop + int(generator.integers(8, 41))
    return types


def padding_of(types: NDArray[np.int64]) -> NDArray[np.int64]:
    """The `attention_mask` of a row that is a little shorter than its batch."""
    valid = np.ones_like(types)
    valid[:, :_PADDING] = 0
    return valid


def build_ours(types: NDArray[np.int64], *, rule: MaskRule) -> dict[str, NDArray[np.bool_]]:
    """Both masks by this package, under HF's names."""
    masks = build_masks(types, attention_mask=padding_of(types), rule=rule)
    return {"full_attention": masks.mask_global, "sliding_attention": masks.mask_sliding}


def build_theirs(types: NDArray[np.int64], *, rule: MaskRule) -> Mapping[str, Any]:
    """Both masks by the reference: the model's for `forward`, those of static generation for `static`."""
    import torch
    from transformers.masking_utils import create_masks_for_generate
    from transformers.models.gemma4_unified import Gemma4UnifiedForConditionalGeneration
    from transformers.models.gemma4_unified.modeling_gemma4_unified import get_block_sequence_ids_for_mask

    type_ids = torch.from_numpy(types)
    arguments: dict[str, Any] = {
        "config": _text_config(),
        "inputs_embeds": torch.empty(*types.shape, 1),
        "attention_mask": torch.from_numpy(padding_of(types)),
        "cache": None,
        "position_ids": torch.arange(types.shape[1])[None],
    }
    if rule == "forward":
        blocks = get_block_sequence_ids_for_mask(type_ids, device=type_ids.device)
        masks: Mapping[str, Any] = create_masks_for_generate(**arguments, block_sequence_ids=blocks)
    else:
        made = Gemma4UnifiedForConditionalGeneration.create_masks_for_generate(**arguments, mm_token_type_ids=type_ids)
        masks = made
    return masks


def fill_two(n_tokens: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two arrays of the masks' size, merely filled."""
    return np.full((1, 1, n_tokens, n_tokens), True), np.full((1, 1, n_tokens, n_tokens), True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line per measurement; return 1 if one misses its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="interleaved runs of each side")
    runs = parser.parse_args(arguments).runs
    passed = [_compare(rule, runs=runs) for rule in RULE_NAMES]
    passed.append(_measure_long(runs=runs))
    return int(not all(passed))


def _compare(rule: MaskRule, *, runs: int) -> bool:
    import torch

    types = image_prompt(N_TOKENS)
    theirs = build_theirs(types, rule=rule)
    for layer, mask in build_ours(types, rule=rule).items():
        if not np.array_equal(mask, theirs[layer].numpy()):
            raise SystemExit(f"{rule}, {layer}: the masks differ; run the tests")
    del theirs
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: build_ours(types, rule=rule),
        "fill": lambda: fill_two(N_TOKENS),
        "HF, 1": lambda: build_theirs(types, rule=rule),
        "HF, 2": lambda: build_theirs(types, rule=rule),
    }
    times_ms: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(runs):
        for side, call in sides.items():
            torch.set_num_threads(2 if side == "HF, 2" else 1)
            call()  # so that every side finds the memory that itself has just given back
            times_ms[side].append(_time_ms(call))
    best = {side: min(times) for side, times in times_ms.items()}
    hf_ratio = min(best["HF, 1"], best["HF, 2"]) / best["ours"]
    fill_ratio = best["ours"] / best["fill"]
    milliseconds = "  ".join(f"{side} {value:.2f} ms" for side, value in best.items())
    print(f"{rule:8} both masks, {N_TOKENS} tokens: {milliseconds}", flush=True)
    print(f"{'':8} HF / ours {hf_ratio:.1f}× (at least {_LEAST_HF_RATIO:.0f}×)", end=", ")
    print(f"ours / fill {fill_ratio:.2f}× (at most {_MOST_FILL_RATIO:.0f}×)", flush=True)
    return hf_ratio >= _LEAST_HF_RATIO and fill_ratio <= _MOST_FILL_RATIO


def _measure_long(*, runs: int) -> bool:
    types = image_prompt(N_LONG)
    spec_ms = min(_time_ms(lambda: describe_masks(types)) for _ in range(runs))
    tracemalloc.start()
    specs = describe_masks(types)
    spec_peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    rows_ms = min(_time_ms(lambda: last_rows(specs)) for _ in range(min(runs, 5)))
    held_mb = (specs.full_attention.nbytes + specs.sliding_attention.nbytes) / 1e6
    print(
        f"both specs, {N_LONG} tokens: {spec_ms:.2f} ms (at most {_MOST_SPEC_MS:.0f}), held {held_mb:.1f} MB", end=", "
    )
    print(f"peak {spec_peak_mb:.1f} MB (at most {_MOST_SPEC_MB:.0f})")
    print(f"rows of its last {N_ROWS} tokens, both masks: {rows_ms:.1f} ms (W = {SLIDING_WINDOW})")
    return spec_ms <= _MOST_SPEC_MS and spec_peak_mb <= _MOST_SPEC_MB


def last_rows(specs: MaskSpecs) -> object:
    """Both masks of the prompt's last tokens."""
    n_tokens = specs.full_attention.n_tokens
    return specs.rows(n_tokens - N_ROWS, n_tokens)


@cache
def _text_config() -> Any:
    from transformers.models.gemma4_unified import Gemma4UnifiedTextConfig

    config = Gemma4UnifiedTextConfig(num_hidden_layers=6, sliding_window=SLIDING_WINDOW)
    config._attn_implementation = "sdpa"
    return config


def _time_ms(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


if __name__ == "__main__":
    sys.exit(main())
