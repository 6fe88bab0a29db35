"""A tiny model fed our masks: the bits of its logits, its tokens, and prefill in chunks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.core.attention.masks import describe_masks, to_additive
from gemma4_mm.core.prefill.chunks import plan_chunks
from gemma4_mm.testing.strategies import token_runs
from tests.model.tiny import WINDOW, chunk_embeddings, make_prompt, media_embeddings, tiny_model

pytestmark = pytest.mark.parity

NEW_TOKENS = 16
TIE = 1e-5  # logits are of the order of 1
MAX_NEAR_TIES = 1  # per prompt
LONG_BLOCK = (("text", 5), ("image", 22), ("text", 3), ("video", 15), ("audio", 9), ("text", 6))


@st.composite
def prompts(draw, *, padding=True):
    """Media of every kind in any order, blocks up to twice the window, perhaps padded on one side, then text."""
    kinds = ["text", "image", "video", "audio"]
    parts = draw(token_runs(kinds=kinds, max_runs=5, max_tokens=2 * WINDOW))
    parts.append(("text", draw(st.integers(1, 6))))
    pad = [("padding", draw(st.integers(1, 9)))]
    side = draw(st.sampled_from(["none", "left", "right"])) if padding else "none"
    parts = {"none": parts, "left": pad + parts, "right": parts + pad}[side]
    return make_prompt(*parts, seed=draw(st.integers(0, 999)))


def our_masks(types, *, rule, attention=None, past=0, implementation="sdpa"):
    """Both masks as the dict of 4-D tensors that the model takes."""
    import torch

    specs = describe_masks(types, attention_mask=attention, rule=rule, sliding_window=WINDOW, past_length=past)
    masks = {layer: getattr(specs, layer).dense() for layer in ("full_attention", "sliding_attention")}
    if implementation == "eager":
        masks = {layer: to_additive(mask) for layer, mask in masks.items()}
    return {layer: torch.from_numpy(mask) for layer, mask in masks.items()}


def reference_logits(prompt, *, rule, implementation):
    """Logits under the model's own masks: its forward's, or those that static generation makes."""
    import torch

    model = tiny_model(implementation)
    types = torch.from_numpy(prompt.types)
    if rule == "forward":
        return model(**prompt.tensors, mm_token_type_ids=types).logits
    masks = model.create_masks_for_generate(
        config=model.config,
        inputs_embeds=torch.zeros(1, prompt.n_tokens, 64),
        attention_mask=prompt.tensors["attention_mask"],
        cache=None,
        position_ids=torch.arange(prompt.n_tokens)[None],
        mm_token_type_ids=types,
    )
    return model(**{**prompt.tensors, "attention_mask": masks}).logits


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("rule", ["forward", "static"])
@given(prompt=prompts())
@settings(max_examples=100)
def test_our_masks_give_the_same_bits_of_logits(prompt, rule, implementation):
    import torch

    theirs = reference_logits(prompt, rule=rule, implementation=implementation)
    masks = our_masks(prompt.types, rule=rule, attention=prompt.attention, implementation=implementation)
    ours = tiny_model(implementation)(**{**prompt.tensors, "attention_mask": masks}).logits
    assert torch.equal(ours, theirs)


def test_the_rules_give_different_logits():
    forward, static = (
        reference_logits(make_prompt(*LONG_BLOCK), rule=rule, implementation="sdpa") for rule in ("forward", "static")
    )
    assert (forward - static).abs().max() > 1e-3


def generate(prompt, *, rule):
    """The model's own greedy tokens: default generation, or with a static cache and no compiler."""
    import torch

    options = {"cache_implementation": "static", "disable_compile": True} if rule == "static" else {}
    tokens = tiny_model().generate(
        **prompt.tensors,
        mm_token_type_ids=torch.from_numpy(prompt.types),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        **options,
    )
    return tokens[0, prompt.n_tokens :].tolist()


def assert_greedy(prompt, cache, logits, expected, *, rule):
    """Feed the expected tokens one by one, every mask ours: each must be the greedy choice after what came before.

    `generate` calls other kernels than a masked call does, so logits differ in their last bits. Where the two best are
    closer than `TIE`, either is a greedy choice: one such tie was met, with one BLAS thread, at the last token of a
    prompt without any media.
    """
    import torch

    near_ties = 0
    for place, token in enumerate(expected):
        row = logits[0, -1]
        if int(row.argmax()) != token:
            assert float(row.max() - row[token]) < TIE, f"token {place}: {int(row.argmax())}, expected {token}"
            near_ties += 1
        types = np.pad(prompt.types, ((0, 0), (0, place + 1)))
        masks = our_masks(types, rule=rule, past=prompt.n_tokens + place)
        logits = tiny_model()(input_ids=torch.tensor([[token]]), attention_mask=masks, cache=cache).logits
    assert near_ties <= MAX_NEAR_TIES


def prefill(prompt, chunks):
    """Run chunks one after the other into one cache; returns it and the last chunk's logits without padding."""
    import torch
    from transformers import DynamicCache

    model, cache = tiny_model(), DynamicCache()
    media = media_embeddings(model, prompt)
    for chunk in chunks:
        masks = chunk.masks()
        logits = model(
            inputs_embeds=chunk_embeddings(model, prompt, chunk, media),
            position_ids=torch.from_numpy(chunk.position_ids[:, chunk.tokens.start :]).long(),
            attention_mask={
                "full_attention": torch.from_numpy(masks.mask_global),
                "sliding_attention": torch.from_numpy(masks.mask_sliding),
            },
            cache=cache,
        ).logits[:, : chunk.n_tokens]
        if chunk.padding:
            cache.crop(-chunk.padding)  # a fixed cache would overwrite them with the next chunk
    return cache, logits


def continue_greedily(prompt, cache, logits, *, rule):
    """Our own greedy loop after a prefill: every token the argmax, every mask ours."""
    import torch

    tokens = [int(logits[0, -1].argmax())]
    while len(tokens) < NEW_TOKENS:
        types = np.pad(prompt.types, ((0, 0), (0, len(tokens))))
        masks = our_masks(types, rule=rule, past=prompt.n_tokens + len(tokens) - 1)
        logits = tiny_model()(input_ids=torch.tensor([tokens[-1:]]), attention_mask=masks, cache=cache).logits
        tokens.append(int(logits[0, -1].argmax()))
    return tokens


def plan(prompt, *, rule, max_chunk, **options):
    return plan_chunks(
        prompt.segments,
        max_chunk=max_chunk,
        capacity=999,
        oversize="own_chunk",
        rule=rule,
        sliding_window=WINDOW,
        **options,
    )


@pytest.mark.parametrize("rule", ["forward", "static"])
@given(prompt=prompts(padding=False), data=st.data())
@settings(max_examples=40)
def test_chunked_prefill_gives_the_tokens_of_generate(prompt, rule, data):
    expected = generate(prompt, rule=rule)
    whole = plan(prompt, rule=rule, max_chunk=prompt.n_tokens)
    assert len(whole) == 1
    assert_greedy(prompt, *prefill(prompt, whole), expected, rule=rule)
    chunks = plan(prompt, rule=rule, max_chunk=data.draw(st.integers(2, 40)))
    assert_greedy(prompt, *prefill(prompt, chunks), expected, rule=rule)
    padded = plan(prompt, rule=rule, max_chunk=40, allowed_lengths=(8, 24, 40), pad=True)
    assert_greedy(prompt, *prefill(prompt, padded), expected, rule=rule)


NAMED_PROMPTS = {
    "text": (("text", 30),),
    "long text": (("text", 90),),
    "image": (("text", 4), ("image", 9), ("text", 5)),
    "image beyond the window": LONG_BLOCK,
    "two images": (("text", 2), ("image", 12), ("text", 1), ("image", 20), ("text", 7)),
    "adjacent images": (("text", 2), ("image", 12), ("image", 20), ("text", 7)),
    "video": (("text", 3), ("video", 6), ("text", 4), ("video", 6), ("text", 4), ("video", 6), ("text", 4)),
    "audio": (("text", 3), ("audio", 40), ("text", 4)),
    "audio after image": (("image", 17), ("audio", 5), ("text", 3)),
    "image at the end": (("text", 5), ("image", 30)),
    "video beside image": (("text", 5), ("video", 9), ("image", 18), ("text", 5)),
    "everything": (("text", 3), ("image", 9), ("audio", 7), ("video", 8), ("text", 2), ("image", 24), ("text", 9)),
}


@pytest.mark.parametrize("rule", ["forward", "static"])
@pytest.mark.parametrize("name", NAMED_PROMPTS)
def test_greedy_tokens_are_those_of_generate(name, rule):
    """Without any allowance for ties: the tokens themselves. No choice was closer than 7e-5, ten times the noise."""
    prompt = make_prompt(*NAMED_PROMPTS[name])
    expected = generate(prompt, rule=rule)
    for max_chunk in (prompt.n_tokens, 31):
        prefilled = prefill(prompt, plan(prompt, rule=rule, max_chunk=max_chunk))
        assert continue_greedily(prompt, *prefilled, rule=rule) == expected


def test_the_two_rules_generate_different_tokens():
    prompt = make_prompt(*LONG_BLOCK)
    assert generate(prompt, rule="forward") != generate(prompt, rule="static")


def test_a_whole_prefill_from_chunk_parts_has_the_bits_of_the_models_own():
    import torch

    prompt = make_prompt(*LONG_BLOCK)
    _, logits = prefill(prompt, plan(prompt, rule="forward", max_chunk=prompt.n_tokens))
    assert torch.equal(logits, reference_logits(prompt, rule="forward", implementation="sdpa"))


def test_a_cut_block_differs():
    """The check can fail: the same chunks, but one more cut, inside the image."""
    prompt = make_prompt(*LONG_BLOCK)
    _, whole = prefill(prompt, plan(prompt, rule="forward", max_chunk=prompt.n_tokens))
    good = plan(prompt, rule="forward", max_chunk=30)
    assert [chunk.tokens.stop for chunk in good] == [30, 60]
    _, logits = prefill(prompt, good)
    assert (logits[:, -1] - whole[:, -1]).abs().max() < 1e-4

    image = good[0].embeddings[0]
    cut = (
        replace(
            good[0],
            tokens=slice(0, 16),
            embeddings=(replace(image, rows=slice(0, 11), tokens=slice(5, 16)),),
        ),
        replace(
            good[0],
            tokens=slice(16, 30),
            embeddings=(replace(image, rows=slice(11, 22), tokens=slice(0, 11)),),
        ),
        good[1],
    )
    _, logits = prefill(prompt, cut)
    assert (logits[:, -1] - whole[:, -1]).abs().max() > 1e-2
