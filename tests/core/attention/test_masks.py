"""Both masks: against their slow twin, their drawings and their own views."""

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.core.attention import mask_rules
from gemma4_mm.core.attention.masks import build_masks, describe_masks, to_additive, to_uint8
from gemma4_mm.core.attention.stencil import paint_ranges
from gemma4_mm.errors import InputError
from gemma4_mm.testing.strategies import MaskLayout, mask_layouts
from tests.core.attention.mask_layouts import LAYERS, number_blocks, twin

RULE_NAMES = ("forward", "static", "deepmind")
DRAWN_TYPES = [[0, 1, 1, 1, 1, 0, 0]]


def long_prompt(length, *, block=280, period=300):
    types = np.zeros((1, length), np.int64)
    for start in range(10, length - block, period):
        types[0, start : start + block] = 1
    return types


@given(layout=mask_layouts())
@settings(max_examples=120)
@pytest.mark.parametrize("rule", RULE_NAMES)
def test_dense_masks_are_the_twins(layout, rule):
    specs = describe_masks(**layout.arguments, rule=rule)
    for layer in LAYERS:
        mask = getattr(specs, layer).dense()
        assert mask.dtype == np.bool_
        assert np.array_equal(mask, twin(layout, rule=rule, layer=layer)), layer


@given(layout=mask_layouts(), data=st.data())
@settings(max_examples=150)
def test_every_view_agrees_with_the_dense_mask(layout, data):
    rule = data.draw(st.sampled_from(RULE_NAMES))
    spec = getattr(describe_masks(**layout.arguments, rule=rule), data.draw(st.sampled_from(LAYERS)))
    dense = spec.dense()
    batch, _, queries, keys = dense.shape

    painted = np.zeros_like(dense)
    ranges = spec.intervals()
    assert ranges.dtype == np.int32
    assert ranges.shape[:2] == (batch, queries)
    for row, query, i in np.ndindex(ranges.shape[:3]):
        painted[row, 0, query, slice(*ranges[row, query, i])] = True
    assert np.array_equal(painted, dense)
    used = ranges[..., 1] > ranges[..., 0]
    assert not ranges[~used].any()  # [0, 0), and only behind the used ones
    assert not (used[..., 1:] & ~used[..., :-1]).any()

    assert np.array_equal(spec.visible_counts(), dense.sum(axis=(1, 3)))
    assert spec.block_ids.tolist() == [number_blocks(row) for row in layout.types]

    start = data.draw(st.integers(layout.past, layout.past + queries - 1))
    stop = data.draw(st.integers(start + 1, layout.past + queries))
    key_stop = data.draw(st.integers(0, keys))
    expected = dense[:, :, start - layout.past : stop - layout.past]
    assert np.array_equal(spec.rows(start, stop), expected)
    assert np.array_equal(spec.rows(start, stop, key_stop=key_stop), expected[..., :key_stop])

    row, key = data.draw(st.integers(0, batch - 1)), data.draw(st.integers(0, keys - 1))
    assert spec.visible(start, key, row=row) is bool(expected[row, 0, 0, key])


@given(seed=st.integers(0, 2**16), blank=st.booleans())
@settings(max_examples=100)
def test_painted_rows_hold_their_ranges(seed, blank):
    """Any ranges, not only those of attention: still, moving and jumping ends, empty rows, groups beyond a slab."""
    random = np.random.default_rng(seed)
    n_rows, n_keys = random.integers(1, 1300), random.integers(1, 700)
    moves = random.choice([0, 1, -7, 40], (2, 40), p=[0.45, 0.45, 0.05, 0.05])
    steps = np.repeat(moves, random.integers(1, 300 if random.random() < 0.2 else 12, 40), axis=1)[:, :n_rows]
    ends = np.cumsum(np.pad(steps, ((0, 0), (0, max(0, n_rows - steps.shape[1])))), axis=1)
    starts = np.clip(ends[0] - random.integers(0, 60), 0, n_keys).astype(np.int32)
    stops = np.clip(ends[1] + random.integers(0, 200), 0, n_keys).astype(np.int32)
    out = np.zeros((n_rows, n_keys), bool) if blank else random.random((n_rows, n_keys)) < 0.5
    paint_ranges(out, starts=starts, stops=stops, blank=blank)
    keys = np.arange(n_keys)
    assert np.array_equal(out, (keys >= starts[:, None]) & (keys < stops[:, None]))


def test_padding_at_the_ends_leaves_one_range_and_each_gap_adds_one():
    ends = describe_masks([[0, 0, 1, 1, 0, 0]], attention_mask=[[0, 1, 1, 1, 1, 0]]).full_attention
    assert ends.intervals().shape == (1, 6, 1, 2)
    gaps = describe_masks([[0] * 7], attention_mask=[[1, 0, 1, 1, 0, 0, 1]]).full_attention
    assert gaps.intervals()[0, -1].tolist() == [[0, 1], [2, 4], [6, 7]]
    window_in_gap = describe_masks([[0] * 5], attention_mask=[[1, 0, 0, 1, 1]], sliding_window=2).sliding_attention
    assert window_in_gap.intervals()[0].tolist() == [[[0, 1]], [[0, 1]], [[0, 0]], [[3, 4]], [[3, 5]]]


def test_a_padding_query_keeps_its_row_and_sees_no_padding():
    left = build_masks([[0, 0, 0, 0]], attention_mask=[[0, 0, 1, 1]])
    assert to_uint8(left.mask_global)[0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    right = build_masks([[0, 0, 0, 0]], attention_mask=[[1, 1, 0, 0]], sliding_window=2)
    assert to_uint8(right.mask_sliding)[0, 0].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_docstrings_draw_the_rules(rule):
    drawings = re.findall(r"((?:^ +[01](?: [01])+\n)+)", mask_rules.RULES[rule].__doc__, re.MULTILINE)
    full, sliding = (np.array([line.split() for line in text.splitlines()], int) for text in drawings)
    masks = build_masks(DRAWN_TYPES, rule=rule, sliding_window=3)
    assert np.array_equal(masks.mask_global[0, 0], full)
    assert np.array_equal(masks.mask_sliding[0, 0], sliding)


def test_runs_are_those_that_their_docstring_shows():
    from gemma4_mm.core.attention.blocks import TokenRuns, find_runs

    drawn = re.findall(r"(\w+): .*`([-\d ]+)`", TokenRuns.__doc__)
    runs = find_runs(np.array([[0, 1, 1, 0, 2, 0]]))
    assert len(drawn) == 4
    for name, values in drawn:
        assert getattr(runs, name).tolist() == [[int(value) for value in values.split()]], name


@given(layout=mask_layouts())
@settings(max_examples=100)
def test_deepmind_and_static_agree_unless_a_block_is_longer_than_the_window(layout):
    if layout.positions is not None:
        return  # the static rule looks packed blocks up elsewhere
    static, deepmind = (describe_masks(**layout.arguments, rule=rule) for rule in ("static", "deepmind"))
    assert np.array_equal(static.full_attention.dense(), deepmind.full_attention.dense())
    longest = max(max(np.bincount([b for b in number_blocks(row) if b >= 0], minlength=1)) for row in layout.types)
    if longest <= layout.window:
        assert np.array_equal(static.sliding_attention.dense(), deepmind.sliding_attention.dense())


def test_deepmind_and_static_differ_for_a_block_of_1120():
    types = np.ones((1, 1120), np.int64)
    static, deepmind = (build_masks(types, rule=rule).mask_sliding for rule in ("static", "deepmind"))
    assert static.sum() - deepmind.sum() == 96 * 97 // 2  # the keys that lie 1024 to 1119 ahead


def test_queries_of_a_prefill_call_get_the_keys_up_to_their_end():
    types = [[0, 1, 1, 0, 2, 2, 0]]
    whole = build_masks(types, sliding_window=3)
    part = build_masks(types, sliding_window=3, queries=slice(3, 6))
    assert np.array_equal(part.mask_global, whole.mask_global[:, :, 3:6, :6])
    assert np.array_equal(part.mask_sliding, whole.mask_sliding[:, :, 3:6, :6])
    assert np.array_equal(build_masks(types, queries=slice(-4, None)).mask_global, whole.mask_global[:, :, 3:])


def test_additive_masks_are_finite_unless_asked():
    mask = np.array([[True, False]])
    assert to_uint8(mask).tolist() == [[1, 0]]
    assert np.shares_memory(to_uint8(mask), mask)
    for dtype in (np.float16, np.float32, np.float64):
        added = to_additive(mask, dtype=dtype)
        assert added.dtype == dtype
        assert added.tolist() == [[0, float(np.finfo(dtype).min)]]
    assert to_additive(mask, fill=-1e9).tolist() == [[0, -1e9]]
    assert to_additive(mask, fill=-np.inf).tolist() == [[0, -np.inf]]


@pytest.mark.parametrize(
    ("dtype", "fill", "words"),
    [
        (np.float16, -1e9, "fill is -1000000000.0; it must be negative and at least -6"),
        (np.float32, 0.0, "must be negative"),
        (np.float16, -1e-20, "must be negative"),
        (np.float32, 1.0, "must be negative"),
        (np.float32, float("nan"), "must be negative"),
        (np.int32, None, "cannot be int32; choose float16"),
    ],
)
def test_an_additive_mask_must_hide_what_it_hides(dtype, fill, words):
    with pytest.raises(InputError, match=re.escape(words)):
        to_additive(np.array([True]), dtype=dtype, fill=fill)


BAD_ARGUMENTS = [
    ({"mm_token_type_ids": [[0, 4]]}, "holds 4; a type is 0 text, 1 image, 2 video or 3 audio"),
    ({"mm_token_type_ids": [[0, -1]]}, "holds -1; a type is"),
    ({"mm_token_type_ids": [0, 1]}, "is int64 (2,); it must be integers (batch, tokens)"),
    ({"mm_token_type_ids": [[0.0, 1.0]]}, "is float64 (1, 2); it must be integers"),
    ({"mm_token_type_ids": np.zeros((1, 0), int)}, "at least one token"),
    ({"attention_mask": [[1, 1]]}, "attention_mask is (1, 2), mm_token_type_ids (1, 4)"),
    ({"attention_mask": [[1, 1, 0, 1]]}, "0 inside a vision block, at row 0, token 2"),
    ({"attention_mask": [[2, 1, 1, 1]]}, "values other than 0 and 1"),
    ({"attention_mask": [[0.0, -1e9, 0.0, 0.0]]}, "values other than 0 and 1"),
    ({"sliding_window": 0}, "sliding_window is 0; it must be at least 1"),
    ({"rule": "fast"}, "'fast' is unknown; choose one of forward, static, deepmind"),
    ({"past_length": -1}, "past_length is -1 of 4 tokens"),
    ({"past_length": 4}, "at least one new one"),
    ({"past_length": 2, "capacity": 3}, "2 cached and 2 new tokens do not fit into a KV capacity of 3"),
    ({"past_length": 9, "capacity": 8}, "do not fit into a KV capacity of 8"),
    ({"position_ids": [[0, 1]]}, "position_ids is int64 (1, 2); it must be integers (1, 4)"),
    ({"position_ids": [[0, 1, 0, 1]], "past_length": 1}, "have neither padding nor past"),
    ({"position_ids": [[0, 1, 0, 1]], "attention_mask": [[1, 1, 1, 1]]}, "have neither padding nor past"),
    ({"position_ids": [[0, 1, 9, 10]], "rule": "static"}, "position_ids go from 0 to 10"),
]


@pytest.mark.parametrize(("change", "words"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused_in_words(change, words):
    with pytest.raises(InputError, match=re.escape(words)):
        describe_masks(**{"mm_token_type_ids": [[0, 1, 1, 0]], **change})


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        (slice(0, 2), "queries end at token 2, inside a vision block"),
        (slice(2, 2), "queries [2, 2) are not among the 4 tokens"),
        (slice(0, 4, 2), "leave the step out"),
    ],
)
def test_bad_queries_are_refused_in_words(queries, words):
    with pytest.raises(InputError, match=re.escape(words)):
        build_masks([[0, 1, 1, 0]], queries=queries)


def test_views_refuse_what_is_not_there():
    spec = describe_masks([[0, 1, 1, 0]]).full_attention
    for call in (lambda: spec.rows(0, 5), lambda: spec.visible(4, 0), lambda: spec.rows(-1, 2)):
        with pytest.raises(InputError, match="are not among the 4 tokens"):
            call()
    for call in (lambda: spec.visible(0, 4), lambda: spec.visible(0, 0, row=1)):
        with pytest.raises(InputError, match="the mask has 1 rows of 4 keys"):
            call()
    with pytest.raises(InputError, match="key_stop is 5; the mask has 4 keys"):
        spec.rows(0, 4, key_stop=5)


def test_a_long_prompt_costs_memory_for_its_rows_only():
    length, queries = 262_144, 512
    types = long_prompt(length)
    tracemalloc.start()
    try:
        specs = describe_masks(types)
        _, described = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        rows = specs.rows(length - queries, length)
        _, painted = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert described <= 16e6
    assert specs.full_attention.nbytes + specs.sliding_attention.nbytes <= 16e6
    assert painted <= rows.mask_global.nbytes + rows.mask_sliding.nbytes + 16e6
    assert rows.mask_global.shape == (1, 1, queries, length)
    assert rows.mask_global[0, 0, -1].all()
    assert rows.mask_sliding[0, 0, -1].sum() == 1024


def test_a_window_longer_than_the_prompt_hides_nothing():
    for rule in RULE_NAMES:
        masks = build_masks(DRAWN_TYPES, rule=rule, sliding_window=2**40)
        hidden = masks.mask_global & ~masks.mask_sliding
        assert not hidden.any(), rule


def test_specs_of_lists_and_narrow_integers_are_the_same():
    wide = describe_masks(np.array(DRAWN_TYPES)).sliding_attention
    for types in (DRAWN_TYPES, np.array(DRAWN_TYPES, np.uint8), np.asfortranarray(DRAWN_TYPES)):
        assert np.array_equal(describe_masks(types).sliding_attention.dense(), wide.dense())


def test_layout_strategy_reaches_every_case():
    """The comparisons above and in the parity suite stand on these layouts: each kind must really occur."""
    seen = set()

    @given(layout=mask_layouts())
    @settings(max_examples=200)
    def collect(layout: MaskLayout) -> None:
        vision = np.isin(layout.types, (1, 2))
        seen.add(layout.cache)
        seen.update(["packed"] if layout.positions is not None else [])
        seen.update(["padded"] if layout.attention is not None and not layout.attention.all() else [])
        seen.update(["adjacent"] if (vision[:, 1:] & vision[:, :-1] & np.diff(layout.types).astype(bool)).any() else [])
        seen.update(["oversize"] if (vision.sum(axis=1) > 2 * layout.window).any() else [])
        seen.update(["long past"] if layout.past > layout.window else [])

    collect()
    assert seen == {"none", "dynamic", "static", "packed", "padded", "adjacent", "oversize", "long past"}
