"""Masks under pytest-benchmark: `pytest benchmarks/test_masks.py`. Ours only; `benchmarks.masks` has both sides."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.masks import N_LONG, N_ROWS, N_TOKENS, build_ours, image_prompt, last_rows
from gemma4_mm.core.attention.masks import Masks, describe_masks
from gemma4_mm.core.prefill.chunks import plan_chunks
from gemma4_mm.inputs import Segment
from gemma4_mm.spec import MaskRule


@pytest.mark.parametrize("rule", ["forward", "static", "deepmind"])
def test_both_dense_masks(benchmark: BenchmarkFixture, rule: MaskRule) -> None:
    """Both masks of 4096 tokens with images."""
    masks = benchmark(build_ours, image_prompt(N_TOKENS), rule=rule)
    assert masks["full_attention"].shape == (1, 1, N_TOKENS, N_TOKENS)


def test_specs_of_a_long_prompt(benchmark: BenchmarkFixture) -> None:
    """Both specifications of 262,144 tokens."""
    specs = benchmark(describe_masks, image_prompt(N_LONG))
    assert specs.full_attention.n_tokens == N_LONG


def test_last_rows_of_a_long_prompt(benchmark: BenchmarkFixture) -> None:
    """Both masks of the last 512 of 262,144 tokens."""
    masks = benchmark(last_rows, describe_masks(image_prompt(N_LONG)))
    assert isinstance(masks, Masks)
    assert masks.mask_global.shape == (1, 1, N_ROWS, N_LONG)


def test_plan_of_a_long_prompt(benchmark: BenchmarkFixture) -> None:
    """Chunks of at most 512 of 262,144 tokens, an image every 300."""
    segments: list[Segment] = []
    for item, start in enumerate(range(0, N_LONG - 300, 300)):
        segments.append(Segment(kind="text", row=0, start=start, stop=start + 20))
        segments.append(Segment(kind="image", row=0, start=start + 20, stop=start + 300, item=item))
    chunks = benchmark(plan_chunks, segments, max_chunk=512, capacity=N_LONG)
    assert chunks[-1].tokens.stop == segments[-1].stop
