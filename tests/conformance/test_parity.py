"""The whole corpus and random cases against the live oracle: not one bit differs."""

import numpy as np
import pytest

from gemma4_mm.conformance.cases import random_cases, select_cases
from gemma4_mm.conformance.compare import compare_case
from gemma4_mm.conformance.formulas import LAYERS, dense_mask
from gemma4_mm.conformance.records import ParityReport
from gemma4_mm.conformance.run import run_parity, run_subject
from gemma4_mm.conformance.subject import OwnSubject
from gemma4_mm.conformance.summary import format_report, summarize
from tests.conformance import faults

pytestmark = pytest.mark.parity

KINDS = ("image", "video", "audio", "conversation", "masks")
REFUSED = {"video-fewer-than-32", "pitfall-placeholder-without-image"}


# Stages that the oracle's own code gives for every case of a kind: one that it lost would not be compared.
ALWAYS = {
    "image": {"source_rgb", "target_size", "resized_rgb", "patches", "position_ids", "soft_tokens"},
    "video": {"frame_indices", "timestamps", "target_size", "resized_rgb", "patches", "position_ids", "soft_tokens"},
    "audio": {"frames", "frames_mask", "soft_tokens"},
    "conversation": {"token_ids", "token_types", "attention_mask"},
    "masks": {"mask_sliding_forward", "mask_global_forward", "mask_sliding_static", "mask_global_static"},
}
FORMULAS = {"masks": {"mask_sliding_deepmind", "mask_global_deepmind", "chunk_plan"}}


@pytest.mark.parametrize("kind", KINDS)
def test_the_corpus_has_no_difference(kind, processor, expected_of):
    refused, names = set(), set()
    for case in select_cases([kind]):
        names.add(case.name)
        expected = expected_of(case)
        results = compare_case(case, expected, run_subject(OwnSubject(processor), case))
        assert [result.message for result in results if result.status != "equal"] == []
        if results[0].stage == "outcome":
            refused.add(case.name)
            continue
        assert expected.formulas == FORMULAS.get(kind, set())
        assert set(expected.stages) - expected.formulas >= ALWAYS[kind], case.name
        assert ("pcm" in expected.stages) == (kind == "audio" and case.options.get("given_as") == "file")
        assert ("prompt" in expected.stages) == (kind == "conversation" and case.name != "media-sanitized")
    assert refused == REFUSED & names


def test_random_cases_have_no_difference(processor, reference):
    report = run_parity(
        random_cases(80, seed=2026),
        OwnSubject(processor),
        reference,
        subject_name="ours",
        profile="transformers-5.24",
        seed=2026,
    )
    assert [result.message for result in report.failures] == []
    assert report.passed
    assert (report.n_cases, report.n_random, report.seed) == (80, 80, 2026)
    assert report.n_values > 10_000_000
    assert "all zero: no value differs in a single bit (80 cases, 80 of them random (seed 2026)" in format_report(
        report
    )
    assert sum(row.n_different for row in summarize(report)) == 0
    assert report.reference == "transformers 5.24.0"
    assert {"torch", "torchvision", "pillow", "numpy", "python", "cpu_capability"} <= set(report.versions)
    assert ParityReport.from_json(report.to_json()).to_json() == report.to_json()


def test_the_formulas_are_the_references_own_where_it_has_them(expected_of):
    for case in [*select_cases(["masks"]), *(c for c in random_cases(64, seed=9) if c.kind == "masks")]:
        outcome = expected_of(case)
        for rule in ("forward", "static"):
            for layer in LAYERS:
                made = dense_mask(
                    case.inputs["token_types"],
                    case.inputs["attention_mask"],
                    rule=rule,
                    layer=layer,
                    sliding_window=case.options["sliding_window"],
                )
                assert np.array_equal(made, outcome.stages[f"mask_{layer}_{rule}"]), case.name


# Subject, the cases to run it on, and per stage the suspect that has to be named first.
FAULTS = {
    "pillow_resize": (["image-letters", "pitfall-pillow-resize", "budget-70", "video-portrait"], {
        "resized_rgb": "pillow-bicubic", "patches": "follows-from-resized-rgb"}),
    "float_resize": (["image-letters", "image-noise", "budget-140"], {
        "resized_rgb": "float-bicubic", "patches": "follows-from-resized-rgb"}),
    "aliased_resize": (["image-letters", "image-noise"], {"resized_rgb": "float-bicubic-aliased"}),
    "alpha_on_black": (["mode-alpha", "mode-gray-alpha", "pitfall-alpha-on-black"], {
        "source_rgb": "alpha-on-black", "resized_rgb": "follows-from-source-rgb"}),
    "exif_ignored": ([f"exif-{n}" for n in range(2, 9)] + ["pitfall-exif-ignored"], {
        "source_rgb": "exif-ignored", "resized_rgb": "follows-from-source-rgb"}),
    "divided_by_255": (["image-noise", "image-texture"], {"patches": "divided-by-255"}),
    "multiplied_by_255th": (["pitfall-rescale-of-frames", "video-noise"], {"patches": "times-one-255th"}),
    "bgr": (["image-corners", "image-noise"], {"source_rgb": "bgr"}),
    "planes_in_patches": (["image-corners", "video-noise"], {"patches": "planes-in-patches"}),
    "small_patches": (["image-letters", "image-noise"], {"patches": "small-patches"}),
    "yx_ids": (["image-corners", "media-image", "video-portrait"], {
        "position_ids": "yx-ids", "image_position_ids": "yx-ids"}),
    "both_layers": (["pitfall-mask-on-wrong-layers", "masks-text", "masks-model-prompt"], {
        "mask_global_forward": "other-layer", "mask_global_static": "other-layer"}),
    "window_off_by_one": (["masks-text-over-window", "masks-video"], {
        "mask_sliding_forward": "window-too-long", "mask_sliding_static": "window-too-long",
        "mask_sliding_deepmind": "window-too-long"}),
    "long_blocks_lost": (["masks-audio-beside-image"], {"mask_sliding_forward": "long-blocks-dropped"}),
    "thirty_second_cap": (["pitfall-audio-cap"], {
        "frames": "capped", "frames_mask": "capped", "soft_tokens": "capped"}),
    "int16_unscaled": (["audio-noise", "audio-tone"], {"frames": "int16-unscaled"}),
    "not_resampled": (["pitfall-audio-not-resampled", "audio-file-stereo-44k"], {
        "pcm": "not-resampled", "frames": "not-resampled"}),
    "times_zero": (["pitfall-timestamps-zero", "video-uneven"], {"timestamps": "times-zero"}),
    "fps_inverted": (["pitfall-fps-inverted"], {"timestamps": "fps-inverted"}),
    "padded_on_the_right": (["talk-batch", "media-batch"], {
        "token_ids": "padded-right", "attention_mask": "padded-right"}),
    "eoi_lost": (["media-mixed", "media-image"], {"token_ids": "eoi-missing", "token_types": "eoi-missing"}),
    "delimiters_typed": (["media-mixed", "media-audio"], {"token_types": "delimiters-typed"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_named(name, expected_of):
    patterns, stages = FAULTS[name]
    named = {}
    for case in select_cases(patterns):
        results = compare_case(case, expected_of(case), run_subject(getattr(faults, name), case))
        failures = [result for result in results if result.status != "equal"]
        assert failures, case.name
        assert failures[0].suspects, failures[0].message
        assert "this looks like" in failures[0].message
        for result in failures:
            named.setdefault(result.stage, set()).update(suspect.name for suspect in result.suspects[:1])
    for stage, suspect in stages.items():
        assert named.get(stage) == {suspect}, (stage, named)


def test_a_cut_inside_a_block_is_told_in_words(expected_of):
    (case,) = select_cases(["pitfall-chunk-inside-block"])
    *_, result = compare_case(case, expected_of(case), run_subject(faults.chunk_inside_block, case))
    assert result.status == "different"
    assert result.message == (
        "case pitfall-chunk-inside-block, stage chunk_plan, row 0: the chunk [0, 512) ends inside the vision block "
        "[500, 766)"
    )


@pytest.mark.parametrize("name", ["right", "exif_right"])
def test_what_is_right_is_not_accused(name, expected_of):
    """The faults' own pipeline, without a fault: differences come from the planted mistake alone."""
    for case in select_cases(["exif-*", "image-noise", "video-portrait", "media-mixed", "masks-video", "audio-tone"]):
        results = compare_case(case, expected_of(case), run_subject(getattr(faults, name), case))
        assert [result.message for result in results if result.status != "equal"] == []


def test_the_first_difference_in_words(expected_of):
    (case,) = select_cases(["image-letters"])
    results = compare_case(case, expected_of(case), run_subject(faults.pillow_resize, case))
    (resized,) = [result for result in results if result.stage == "resized_rgb"]
    difference = resized.difference
    share = 100 * difference.n_different / resized.n_values
    assert resized.message == (
        f"case image-letters, stage resized_rgb, {difference.first}; {share:.3g} % of values differ by 1: this looks "
        "like Pillow's bicubic"
    )
    own, theirs = (run_subject(side, case).stages["resized_rgb"] for side in (faults.right, faults.pillow_resize))
    row, column, channel = np.argwhere(own != theirs)[0]
    wanted = f"pixel (row {row}, column {column}) channel {'RGB'[channel]}: {theirs[row, column, channel]}, expected "
    assert difference.first == f"{wanted}{own[row, column, channel]}"
    assert difference.histogram == {"1": difference.n_different}
    top, left = difference.crop.origin
    assert np.array_equal(difference.crop.actual, theirs[top : top + 96, left : left + 96])
    assert np.array_equal(difference.crop.expected, own[top : top + 96, left : left + 96])
