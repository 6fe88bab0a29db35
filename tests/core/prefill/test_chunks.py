"""The prefill planner: fewest chunks against brute force, masks against the whole, embeddings token by token."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gemma4_mm.core.attention.blocks import find_runs
from gemma4_mm.core.attention.masks import build_masks, describe_masks
from gemma4_mm.core.prefill.chunks import plan_chunks
from gemma4_mm.core.prefill.cuts import Span, cut_evenly, cut_greedily
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import Segment
from gemma4_mm.testing.strategies import token_runs
from tests.core.attention.mask_layouts import number_blocks

TYPES = {"text": 0, "padding": 0, "image": 1, "video": 2, "audio": 3}


def make_segments(*parts, row=0):
    """Segments of one row from `("image", 4)` pairs; each video has one frame."""
    segments, place, items = [], 0, {"image": 0, "video": 0, "audio": 0}
    for kind, length in parts:
        item = items.get(kind)
        frame = 0 if kind == "video" else None
        segments.append(
            Segment(kind=kind, row=row, start=place, stop=place + length, item=item, frame=frame, grid=None)
        )
        if kind in items:
            items[kind] += 1
        place += length
    return segments


def types_of(segments):
    return [TYPES[segment.kind] for segment in segments for _ in range(segment.n_tokens)]


def parts(*, max_parts=6, max_length=5):
    return token_runs(kinds=["text", "text", "image", "video", "audio"], max_runs=max_parts, max_tokens=max_length)


def legal_plans(types, allowed):
    """Every plan that cuts no block and whose chunks all satisfy `allowed(start, stop, block_is_whole_chunk)`."""
    blocks = number_blocks(types)
    cuts = [i for i in range(1, len(types)) if not (blocks[i] >= 0 and blocks[i] == blocks[i - 1])]
    for count in range(len(cuts) + 1):
        for chosen in itertools.combinations(cuts, count):
            edges = [0, *chosen, len(types)]
            spans = list(itertools.pairwise(edges))
            if all(allowed(stop - start, is_one_block(blocks, start, stop)) for start, stop in spans):
                yield spans


def is_one_block(blocks, start, stop):
    whole = blocks[start] >= 0 and len(set(blocks[start:stop])) == 1
    return whole and blocks.count(blocks[start]) == stop - start


def spans_of(chunks):
    return [(chunk.tokens.start, chunk.tokens.stop) for chunk in chunks]


@given(row=parts(), limit=st.integers(1, 8))
@settings(max_examples=250)
def test_chunks_are_the_fewest(row, limit):
    segments = make_segments(*row)
    types = types_of(segments)
    assume(len(types) <= 14)
    chunks = plan_chunks(segments, max_chunk=limit, capacity=99, oversize="own_chunk")
    plans = list(legal_plans(types, lambda length, one_block: length <= limit or one_block))
    assert spans_of(chunks) in plans
    assert len(chunks) == min(len(plan) for plan in plans)


@given(row=parts(), lengths=st.sets(st.integers(1, 7), min_size=1, max_size=3))
@settings(max_examples=250)
def test_exact_lengths_are_reached_with_the_fewest_chunks_or_not_at_all(row, lengths):
    segments = make_segments(*row)
    types = types_of(segments)
    assume(len(types) <= 14)
    longest = max(lengths)
    plans = list(legal_plans(types, lambda length, one_block: length in lengths or (one_block and length > longest)))
    arguments = {"max_chunk": 7, "capacity": 99, "oversize": "own_chunk", "allowed_lengths": lengths}
    if not plans:
        with pytest.raises(InputError, match="cannot be cut into chunks of exactly"):
            plan_chunks(segments, **arguments)
        return
    chunks = plan_chunks(segments, **arguments)
    assert spans_of(chunks) in plans
    assert len(chunks) == min(len(plan) for plan in plans)
    assert not any(chunk.padding for chunk in chunks)


@given(row=parts(), lengths=st.sets(st.integers(1, 7), min_size=1, max_size=3))
@settings(max_examples=150)
def test_padded_chunks_are_the_fewest_and_have_allowed_lengths(row, lengths):
    segments = make_segments(*row)
    types = types_of(segments)
    assume(len(types) <= 14)
    longest = max(lengths)
    chunks = plan_chunks(segments, max_chunk=7, capacity=99, oversize="own_chunk", allowed_lengths=lengths, pad=True)
    plans = list(legal_plans(types, lambda length, one_block: length <= longest or one_block))
    assert spans_of(chunks) in plans
    assert len(chunks) == min(len(plan) for plan in plans)
    for chunk in chunks:
        fitting = [length for length in lengths if length >= chunk.n_tokens]
        assert chunk.length == min(fitting, default=chunk.n_tokens)


@given(row=parts(max_parts=12), limit=st.integers(5, 12))
@settings(max_examples=150)
def test_even_cuts_are_as_few_and_have_no_more_lengths(row, limit):
    types = np.array([types_of(make_segments(*row))])
    runs = find_runs(types)
    assume((runs.block_stop - runs.block_start).max() <= limit)
    span = Span(0, types.shape[1])
    greedy, even = (cut(span, limit=limit, runs=runs) for cut in (cut_greedily, cut_evenly))
    assert len(even) == len(greedy)
    assert max(stop - start for start, stop in even) <= limit
    assert all(runs.block_start[0, start] == start for start, _ in even)
    assert len({b - a for a, b in even}) <= len({b - a for a, b in greedy})


def test_lengths_repeat_where_that_costs_no_chunk():
    segments = make_segments(("text", 9), ("image", 8), ("text", 6), ("image", 8), ("text", 5), ("image", 8))
    greedy = cut_greedily(Span(0, 44), limit=16, runs=find_runs(np.array([types_of(segments)])))
    assert [span.stop - span.start for span in greedy] == [9, 14, 13, 8]
    chunks = plan_chunks(segments, max_chunk=16, capacity=99)
    assert [chunk.n_tokens for chunk in chunks] == [9, 9, 16, 10]


@given(row=parts(max_parts=8, max_length=9), data=st.data())
@settings(max_examples=150)
def test_the_chunks_masks_are_the_rows_of_the_whole(row, data):
    rule = data.draw(st.sampled_from(["forward", "static", "deepmind"]))
    window = data.draw(st.integers(1, 20))
    before, after = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    segments = make_segments(("padding", before), *row, ("padding", after))
    types = np.array([types_of(segments)])
    valid = np.ones_like(types)
    valid[:, :before] = valid[:, types.shape[1] - after :] = 0
    whole = build_masks(types, attention_mask=valid, rule=rule, sliding_window=window)
    padded = data.draw(st.booleans())
    lengths = {"allowed_lengths": (2, 5, 9), "pad": True} if padded else {}
    chunks = plan_chunks(
        segments, max_chunk=9, capacity=99, oversize="own_chunk", rule=rule, sliding_window=window, **lengths
    )
    for kind in ("mask_sliding", "mask_global"):
        union = np.zeros_like(getattr(whole, kind))
        for chunk in chunks:
            mask = getattr(chunk.masks(), kind)
            stop = chunk.tokens.stop
            assert mask.shape == (1, 1, chunk.length, stop + chunk.padding)
            assert mask.shape[3] == chunk.position_ids.shape[1]
            assert not mask[:, :, : chunk.n_tokens, stop:].any()  # no token sees padding,
            assert mask[:, :, chunk.n_tokens :].any(axis=3).all()  # and padding sees something: no NaN
            union[:, :, chunk.tokens, :stop] = mask[:, :, : chunk.n_tokens, :stop]
        assert np.array_equal(union, getattr(whole, kind)), kind


@given(row=parts(max_parts=9, max_length=9), limit=st.integers(1, 12))
@settings(max_examples=150)
def test_every_soft_token_gets_its_own_embedding_once(row, limit):
    segments = make_segments(*row)
    chunks = plan_chunks(segments, max_chunk=limit, capacity=99, oversize="own_chunk")
    expected = {
        segment.start + i: (segment.kind, segment.item, segment.frame, i)
        for segment in segments
        if segment.item is not None
        for i in range(segment.n_tokens)
    }
    found = {}
    for chunk in chunks:
        for part in chunk.embeddings:
            tokens = range(chunk.tokens.start + part.tokens.start, chunk.tokens.start + part.tokens.stop)
            rows = range(part.rows.start, part.rows.stop)
            for token, embedding in zip(tokens, rows, strict=True):
                assert token not in found
                found[token] = (part.kind, part.item, part.frame, embedding)
    assert found == expected


def test_a_chunk_carries_the_ramp_of_all_positions_so_far():
    chunks = plan_chunks(make_segments(("text", 5), ("image", 3)), max_chunk=5, capacity=8)
    assert [chunk.position_ids.tolist() for chunk in chunks] == [[[0, 1, 2, 3, 4]], [list(range(8))]]
    assert chunks[0].position_ids.dtype == np.int32
    assert chunks[1].position_ids.shape[1] - chunks[1].length == chunks[1].tokens.start


def test_a_past_is_not_planned_again():
    segments = make_segments(("text", 4), ("audio", 6), ("image", 3), ("text", 2))
    chunks = plan_chunks(segments, max_chunk=6, capacity=15, past_length=7)
    assert spans_of(chunks) == [(7, 13), (13, 15)]
    audio, image = chunks[0].embeddings
    assert (audio.rows, audio.tokens) == (slice(3, 6), slice(0, 3))
    assert (image.rows, image.tokens) == (slice(0, 3), slice(3, 6))


def test_rows_of_a_batch_are_planned_apart():
    segments = [*make_segments(("text", 3)), *make_segments(("image", 2), ("text", 1), row=1)]
    assert spans_of(plan_chunks(segments, max_chunk=2, capacity=9, row=1)) == [(0, 2), (2, 3)]


def test_a_long_prompt_is_planned_in_few_shapes():
    segments = make_segments(*[("text", 20), ("image", 280)] * 800, ("text", 22_000))
    chunks = plan_chunks(segments, max_chunk=512, capacity=262_144)
    assert len({chunk.length for chunk in chunks}) <= 4
    padded = plan_chunks(segments, max_chunk=512, capacity=262_144, allowed_lengths=(128, 320, 512), pad=True)
    assert {chunk.length for chunk in padded} <= {128, 320, 512}
    assert len(padded) == len(chunks)


PROMPT = make_segments(("text", 4), ("image", 6), ("text", 3))
BAD_PLANS = [
    ({"max_chunk": 5}, "the vision block at tokens [4, 10) has 6 tokens; a chunk has at most 5"),
    ({"capacity": 12}, "the row has 13 tokens; the KV cache holds 12"),
    ({"max_chunk": 0}, "max_chunk is 0; it must be at least 1"),
    ({"past_length": 13}, "past_length is 13; it must be from 0 to 12"),
    ({"past_length": -1}, "past_length is -1"),
    ({"past_length": 6}, "inside the vision block [4, 10); crop the KV cache"),
    ({"row": 1}, "no segment lies in row 1; choose one of [0]"),
    ({"pad": True}, "pad=True needs allowed_lengths"),
    ({"allowed_lengths": []}, "allowed_lengths are []"),
    ({"allowed_lengths": [4, 9]}, "each from 1 to max_chunk, 8"),
    ({"allowed_lengths": [0, 8]}, "each from 1 to max_chunk, 8"),
    ({"allowed_lengths": [8]}, "tokens [0, 13) cannot be cut into chunks of exactly [8] tokens"),
    ({"allowed_lengths": [8], "pad": True, "capacity": 14}, "padding tokens end at"),
]


@pytest.mark.parametrize(("change", "words"), BAD_PLANS)
def test_bad_plans_are_refused_in_words(change, words):
    with pytest.raises(InputError, match=re.escape(words)):
        plan_chunks(PROMPT, **{"max_chunk": 8, "capacity": 20, **change})


def test_an_oversize_block_is_a_chunk_by_itself_on_request():
    chunks = plan_chunks(PROMPT, max_chunk=5, capacity=13, oversize="own_chunk")
    assert spans_of(chunks) == [(0, 4), (4, 10), (10, 13)]
    whole = describe_masks([types_of(PROMPT)]).full_attention
    assert np.array_equal(chunks[1].masks().mask_global, whole.rows(4, 10, key_stop=10))
