"""The comparison itself: distances, statuses, words, and reports that survive being written."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.conformance.cases import select_cases
from gemma4_mm.conformance.compare import Outcome, bit_distances, compare_case, count_distances, format_share
from gemma4_mm.conformance.formulas import fewest_chunks, find_plan_fault
from gemma4_mm.conformance.records import STAGES, Case, ParityReport
from gemma4_mm.conformance.report import check_report_path, write_report
from gemma4_mm.conformance.run import MOST_CROPS, keep_few_crops, run_subject
from gemma4_mm.conformance.summary import format_report, summarize
from gemma4_mm.errors import InputError, InvariantError
from gemma4_mm.testing.strategies import token_rows
from tests.conformance import faults

CASE = Case(name="made-up", kind="image", inputs={"pixels": np.zeros((2, 2, 3), np.uint8)}, summary="Made up.")
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(floats, st.integers(0, 40))
@settings(max_examples=100)
def test_float_distances_are_steps_to_the_next_float(start, steps):
    value = np.float32(start)
    for _ in range(steps):
        value = np.nextafter(value, np.float32(np.inf))
    if np.isfinite(value):
        crosses_zero = int(start < 0 <= value or (start == 0 and np.signbit(start) and steps > 0))
        distance = bit_distances(np.array([start], np.float32), np.array([value]))
        # nextafter passes one zero only; the other one lies between, or is what it started from
        assert int(distance[0]) - steps in ((0, 1) if crosses_zero else (0,))


def test_zeros_of_both_signs_and_nans_are_different_bits():
    zero, minus, nan = (np.array([value], np.float32) for value in (0.0, -0.0, np.nan))
    assert bit_distances(zero, minus) == 1
    assert bit_distances(nan, nan) == 0
    assert bit_distances(nan, zero) > bit_distances(np.array([3.4e38], np.float32), zero)
    assert bit_distances(np.array([3], np.uint8), np.array([250], np.uint8)) == 247


@given(st.lists(st.integers(0, 5000), max_size=60))
@settings(max_examples=100)
def test_the_histogram_counts_every_distance_in_its_bin(distances):
    def slow_bin(distance):
        if distance <= 2:
            return str(distance)
        top = 4
        while top < distance:
            top *= 2
        return f"{top // 2 + 1}-{top}"

    counts = count_distances(np.array(distances, np.int64))
    expected = [slow_bin(distance) for distance in sorted(distances) if distance]
    assert counts == {name: expected.count(name) for name in dict.fromkeys(expected)}
    assert list(counts) == list(dict.fromkeys(expected))


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(1, 1, "100 %"), (1, 1000_000, "< 0.1 %"), (999_999, 1_000_000, "> 99.9 %"), (4, 1000, "0.4 %"), (1, 3, "33.3 %")],
)
def test_a_share_is_never_rounded_to_nothing_or_all(part, whole, text):
    assert format_share(part, whole) == text


def compare(expected, actual, *, case=CASE, **options):
    return compare_case(case, Outcome(stages=expected), Outcome(stages=actual), **options)


def only(results, stage):
    (result,) = [result for result in results if result.stage == stage]
    return result


SIZE = np.array([48, 96], np.int32)
PATCHES = np.linspace(0, 1, 6912 * 2, dtype=np.float32).reshape(2, 6912)


def test_every_status_is_told_in_words():
    expected = {"target_size": SIZE, "patches": PATCHES, "soft_tokens": np.array([2], np.int32)}
    actual = {"target_size": SIZE + 48, "patches": PATCHES.astype(np.float64), "new": SIZE}
    results = compare(expected, actual)
    assert [(result.stage, result.status) for result in results] == [
        ("target_size", "different"),
        ("patches", "dtype"),
        ("soft_tokens", "missing"),
        ("new", "extra"),
    ]
    assert only(results, "target_size").message.startswith(
        "case made-up, stage target_size, size: 144×96 px, expected 96×48 px; 100 % of values differ"
    )
    assert only(results, "patches").message == (
        "case made-up, stage patches is float64, expected float32; convert it before it is written"
    )
    assert only(results, "soft_tokens").n_different == 1
    (result,) = compare({"patches": PATCHES}, {"patches": PATCHES[:1]})
    assert result.status == "shape"
    assert "has shape (1, 6912), expected (2, 6912)" in result.message
    assert result.n_different == result.n_values == PATCHES.size


def test_one_bit_of_one_value_is_found():
    wrong = PATCHES.copy()
    wrong[1, 3 * (48 * 5 + 7) + 2] = np.nextafter(wrong[1, 3 * (48 * 5 + 7) + 2], np.float32(2))
    ids = np.array([[0, 0], [1, 0]], np.int32)
    result = only(
        compare({"patches": PATCHES, "position_ids": ids}, {"patches": wrong, "position_ids": ids}), "patches"
    )
    assert result.status == "different"
    assert "patch 1, its pixel (row 5, column 7) channel B (patch x 1, y 0 of the grid)" in result.message
    assert "< 0.1 % of values differ by 1 unit in the last place" in result.message
    assert result.difference.histogram == {"1": 1}


def test_whole_numbers_may_be_of_any_width_and_floats_may_not():
    assert compare({"target_size": SIZE}, {"target_size": SIZE.astype(np.int64)})[0].status == "equal"
    assert compare({"target_size": SIZE}, {"target_size": SIZE.astype(np.float32)})[0].status == "dtype"
    assert compare({"patches": PATCHES}, {"patches": PATCHES.astype(np.float16)})[0].status == "dtype"
    big = np.array([2**40, 1], np.int64)
    assert compare({"target_size": SIZE}, {"target_size": big})[0].status == "different"


def outcome_status(expected, actual, **options):
    (result,) = compare_case(CASE, expected, actual, **options)
    assert result.stage == "outcome"
    return result.status


def test_refusals_must_agree():
    refused, failed = Outcome(refused="ValueError: no"), Outcome(failed="ZeroDivisionError: oh")
    given_stages = Outcome(stages={"target_size": SIZE})
    assert outcome_status(refused, refused) == "equal"
    assert outcome_status(refused, given_stages) == "error"
    assert outcome_status(given_stages, refused) == "error"
    assert outcome_status(refused, failed) == outcome_status(given_stages, failed) == "error"
    assert outcome_status(refused, Outcome()) == "error"
    assert outcome_status(refused, Outcome(), partial=True) == "missing"


def test_a_subject_refuses_with_a_value_error_and_fails_with_any_other():
    def broken(_case):
        raise InvariantError("two things disagree")

    assert run_subject(faults.refusing, CASE).refused == "ValueError: no made-up, thank you"
    assert run_subject(faults.failing, CASE).failed == "ZeroDivisionError: no made-up today"
    assert run_subject(broken, CASE).failed == "InvariantError: two things disagree"


def report_of(results, **fields):
    values = {"subject": "s", "reference": "r", "versions": {"torch": "2"}, "profile": "p", **fields}
    return ParityReport(**values, results=tuple(results))


def test_a_report_passes_only_if_something_was_compared_and_equal():
    equal = compare({"target_size": SIZE}, {"target_size": SIZE})
    missing = compare({"target_size": SIZE}, {})
    different = compare({"target_size": SIZE}, {"target_size": SIZE + 1})
    assert report_of(equal).passed
    assert not report_of([]).passed
    assert not report_of(missing).passed
    assert not report_of(missing, partial=True).passed
    assert "nothing was compared" in format_report(report_of(missing, partial=True))
    assert report_of([*equal, *missing], partial=True).passed
    assert "1 stages were not given" in format_report(report_of([*equal, *missing], partial=True))
    assert not report_of([*equal, *missing]).passed
    assert not report_of([*equal, *different], partial=True).passed
    text = format_report(report_of([*equal, *different]))
    assert "all zero" not in text
    assert "1 cases differ, in 1 stages" in text


def test_a_report_survives_json(tmp_path):
    wrong = PATCHES.copy()
    wrong[0, 0] += 1
    results = compare({"patches": PATCHES, "target_size": SIZE}, {"patches": wrong, "target_size": SIZE})
    report = report_of(results, seed=3, n_random=1)
    write_report(report, tmp_path / "report.json")
    again = ParityReport.from_json((tmp_path / "report.json").read_text())
    assert again.to_json() == report.to_json()
    crop, kept = results[1].difference.crop, again.results[1].difference.crop
    assert kept.where == crop.where
    assert np.array_equal(kept.actual, crop.actual)
    assert [row.n_different for row in summarize(again)] == [0, 1]
    for text in ("", "[]", "{}", json.dumps({"version": 1}), json.dumps({"version": 2, "results": []})):
        with pytest.raises(InputError):
            ParityReport.from_json(text)


def test_a_report_path_is_checked_before_the_run(tmp_path):
    with pytest.raises(InputError, match="ends in"):
        check_report_path(tmp_path / "report.pdf")
    with pytest.raises(InputError, match="no directory"):
        check_report_path(tmp_path / "nowhere" / "report.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_report(report_of([]), tmp_path / "folder.json")


def test_only_the_first_pictures_are_kept():
    wrong = PATCHES + 1
    results = compare({"patches": PATCHES}, {"patches": wrong}) * (MOST_CROPS + 5)
    kept = keep_few_crops(list(results))
    assert [result.difference.crop is not None for result in kept] == [True] * MOST_CROPS + [False] * 5


def slowest_plan(types, max_chunk):
    """All ways to cut a short row, by trying them: the least number of chunks."""
    length = len(types)
    vision = [kind in (1, 2) for kind in types]
    cuts = [0] + [i for i in range(1, length) if not (vision[i - 1] and vision[i])] + [length]
    best = {0: 0}
    for stop in cuts[1:]:
        options = [
            best[start] + 1
            for start in cuts
            if start < stop and start in best and (stop - start <= max_chunk or all(vision[start:stop]))
        ]
        if options:
            best[stop] = min(options)
    return best[length]


@given(token_rows(max_runs=5, max_tokens=6), st.integers(1, 12))
@settings(max_examples=150)
def test_the_greedy_plan_has_the_fewest_chunks_and_no_fault(types, max_chunk):
    plan = fewest_chunks(types[None].astype(np.int32), max_chunk=max_chunk)
    assert find_plan_fault(types[None], plan, max_chunk=max_chunk) is None
    assert len(plan) == slowest_plan(types.tolist(), max_chunk)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ([(0, 0, 4), (0, 4, 8)], "ends inside the vision block [2, 6)"),
        ([(0, 0, 2), (0, 2, 6)], "end at token 6 of 8"),
        ([(0, 0, 2), (0, 3, 8)], "must tile the row"),
        ([(0, 0, 8)], "has 8 tokens; the limit is 6"),
        ([(0, 0, 2), (0, 2, 6), (0, 6, 7), (0, 7, 8)], "4 chunks, where 2 would do"),
        ([(0, 0, 6), (0, 6, 8), (1, 0, 8)], "row 1 does not exist"),
        ([(0, 6), (6, 8)], "each chunk is (row, start, stop)"),
    ],
)
def test_each_fault_of_a_plan_is_named(plan, words):
    types = np.array([[0, 0, 1, 1, 2, 1, 0, 0]], np.int32)
    assert words in find_plan_fault(types, np.array(plan, np.int32), max_chunk=6)
    assert find_plan_fault(types, np.array([(0, 0, 6), (0, 6, 8)], np.int32), max_chunk=6) is None
    assert find_plan_fault(types, np.array([(0, 0, 2), (0, 2, 8)], np.int32), max_chunk=6) is None


def test_places_of_every_stage_have_words(assets):  # noqa: ARG001 (fills the cache)
    """Every stage of every kind, its last value changed: the message says where in the stage's own terms."""
    spoken = set()
    for case in select_cases(["exif-6", "video-uneven", "audio-file-stereo-44k", "media-mixed", "masks-video"]):
        expected = faults.right(case)
        for stage, array in expected.items():
            wrong = array.copy()
            wrong[(-1,) * wrong.ndim] = wrong[(-1,) * wrong.ndim] + 1
            (result,) = [r for r in compare(expected, {**expected, stage: wrong}, case=case) if r.status != "equal"]
            assert result.stage == stage
            assert f"case {case.name}, stage {stage}, " in result.message
            assert ", value " not in result.message
            spoken.add((case.kind, stage))
    assert spoken == {(kind, stage) for kind, stages in STAGES.items() for stage in stages}


def test_a_stage_that_the_table_does_not_know_is_compared_too():
    expected, actual = (Outcome(stages={"new_stage": np.array([value], np.int32)}) for value in (1, 2))
    (result,) = compare_case(CASE, expected, actual)
    assert (result.stage, result.status) == ("new_stage", "different")
