"""Placeholder expansion and token types against an obvious loop, and against drawings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.core.tokens.placeholders import SoftRun, expand_placeholders, token_types, video_text
from gemma4_mm.core.tokens.segments import build_segments, check_segments
from gemma4_mm.errors import InputError, InvariantError
from gemma4_mm.inputs import PatchGrid, Segment
from gemma4_mm.spec import TokenIds

IDS = TokenIds()
SOFT = {"image": IDS.image, "video": IDS.video, "audio": IDS.audio}
EDGES = {"image": (IDS.boi, IDS.eoi), "video": (IDS.boi, IDS.eoi), "audio": (IDS.boa, IDS.eoa)}


def expand_slowly(ids, runs):
    """One token at a time: the twin of `expand_placeholders`."""
    remaining, tokens, types = list(runs), [], []
    for token in ids:
        if token in SOFT.values():
            run = remaining.pop(0)
            begin, end = EDGES[run.kind]
            kind_type = {"image": 1, "video": 2, "audio": 3}[run.kind]
            tokens += [begin, *[token] * run.n_tokens, end]
            types += [0, *[kind_type] * run.n_tokens, 0]
        else:
            tokens.append(token)
            types.append(0)
    return tokens, types


@st.composite
def prompts(draw):
    """A tokenised prompt with placeholders, and the runs that they stand for."""
    ids, runs = [], []
    for piece in draw(st.lists(st.sampled_from(["text", "image", "video", "audio"]), max_size=12)):
        if piece == "text":
            ids += draw(st.lists(st.integers(5, 200_000), min_size=1, max_size=4))
        else:
            item = sum(run.kind == piece for run in runs)
            runs.append(SoftRun(kind=piece, item=item, n_tokens=draw(st.integers(0, 9))))
            ids.append(SOFT[piece])
    return np.array(ids, np.int64), runs


@given(prompts())
@settings(max_examples=300)
def test_expansion_equals_its_slow_twin(prompt):
    ids, runs = prompt
    expansion = expand_placeholders(ids, runs)
    tokens, types = expand_slowly(ids.tolist(), runs)
    assert expansion.ids.tolist() == tokens
    assert expansion.types.tolist() == types
    assert expansion.ids.dtype == expansion.types.dtype == np.int64
    for run, start in zip(runs, expansion.starts.tolist(), strict=True):
        assert tokens[start - 1] == EDGES[run.kind][0]
        assert tokens[start + run.n_tokens] == EDGES[run.kind][1]


@given(prompts(), st.integers(0, 5), st.sampled_from(["left", "right"]))
@settings(max_examples=200)
def test_segments_tile_the_padded_row(prompt, padding, side):
    ids, runs = prompt
    expansion = expand_placeholders(ids, runs)
    segments = build_segments(expansion, row=0, padding=padding, side=side)
    pad = np.zeros(padding, np.int64)
    types = np.concatenate([pad, expansion.types] if side == "left" else [expansion.types, pad])[None]
    valid = {kind: [run.n_tokens for run in runs if run.kind == kind] for kind in SOFT}
    if types.size:
        check_segments(segments, mm_token_type_ids=types, valid_rows=valid)
    assert [token for segment in segments for token in range(segment.start, segment.stop)] == list(range(types.size))
    assert [s.n_tokens for s in segments if s.item is not None] == [run.n_tokens for run in runs]


def test_a_small_row_is_segmented_as_its_docstring_says():
    ids = np.array([7, IDS.image, 9])
    expansion = expand_placeholders(ids, [SoftRun(kind="image", item=0, n_tokens=2, grid=PatchGrid(rows=1, columns=2))])
    segments = build_segments(expansion, row=0, padding=2, side="left")
    assert [(s.kind, s.start, s.stop) for s in segments] == [
        ("padding", 0, 2),
        ("text", 2, 4),
        ("image", 4, 6),
        ("text", 6, 8),
    ]


def test_video_text_joins_frames_by_one_space():
    assert video_text(["00:00", "01:05"]) == "00:00 <|video|> 01:05 <|video|>"
    assert video_text([]) == ""


@pytest.mark.parametrize(
    ("ids", "kinds", "words"),
    [
        ([IDS.image], [], "placeholders are 1 image, the media are none"),
        ([5], ["audio"], "placeholders are none, the media are 1 audio"),
        ([IDS.image, IDS.audio], ["audio", "image"], "same order"),
    ],
)
def test_a_mismatch_is_an_error_in_words(ids, kinds, words):
    with pytest.raises(InputError, match=words):
        expand_placeholders(np.array(ids), [SoftRun(kind=kind, item=0, n_tokens=1) for kind in kinds])


def test_other_token_ids_are_respected():
    tokens = TokenIds(image=9, boi=8, eoi=10)
    expansion = expand_placeholders(np.array([1, 9]), [SoftRun(kind="image", item=0, n_tokens=2)], tokens=tokens)
    assert expansion.ids.tolist() == [1, 8, 9, 9, 10]
    assert token_types(expansion.ids, tokens=tokens).tolist() == [0, 0, 1, 1, 0]


@pytest.mark.parametrize(
    "segments",
    [
        (Segment(kind="text", row=0, start=0, stop=2),),  # does not reach the end
        (Segment(kind="text", row=0, start=1, stop=4),),  # a gap
        (Segment(kind="text", row=0, start=0, stop=4),),  # soft tokens under text
        (Segment(kind="text", row=0, start=0, stop=2), Segment(kind="image", row=0, start=2, stop=4, item=0)),
    ],
)
def test_broken_segments_are_invariant_errors(segments):
    with pytest.raises(InvariantError, match="report this bug"):
        check_segments(segments, mm_token_type_ids=np.array([[0, 0, 1, 1]]), valid_rows={"image": [3]})
