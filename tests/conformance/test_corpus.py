"""The corpus: the same bits at every making, one case per pitfall, and all that it is said to hold."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest

from gemma4_mm.conformance import patterns
from gemma4_mm.conformance.cases import all_cases, random_case, random_cases, select_cases
from gemma4_mm.conformance.records import STAGES, Case
from gemma4_mm.errors import InputError
from gemma4_mm.spec import SOFT_TOKEN_BUDGETS

# REFERENCE: what goes wrong elsewhere. A pitfall without a case is a hole in the corpus.
PITFALLS = {
    "mask-on-wrong-layers", "block-over-window", "chunk-inside-block", "prefix-cache", "pillow-resize", "letterbox",
    "exif-ignored", "alpha-on-black", "palette-transparency", "icc-profile", "three-pixels-tall",
    "three-by-nine-hundred", "audio-off-by-one", "audio-cap", "audio-not-resampled", "timestamps-zero", "fps-inverted",
    "gemma4-processor", "image-ignored", "image-url", "placeholder-without-image", "rescale-of-frames",
}  # fmt: skip


def digest(cases):
    """SHA-256 over names, options and bytes."""
    whole = hashlib.sha256()
    for case in cases:
        whole.update(json.dumps([case.name, case.kind, dict(case.options)], sort_keys=True).encode())
        for name, array in sorted(case.inputs.items()):
            whole.update(f"{name} {array.dtype} {array.shape}".encode())
            whole.update(array.tobytes())
    return whole.hexdigest()


def test_the_corpus_has_the_same_bits_everywhere():
    """Recorded once: another machine, numpy or Python must make the same."""
    assert digest(all_cases()) == "cb56dbafe13f1bb5a97893d91953af40a0c1bfd0ac63527f12ddfe4416605431"
    assert digest(random_cases(60, seed=7)) == "fde23c938f059a327e5cc3c1fe90645e072fbc28bb59eb1c3b2ff9353977715e"


def test_names_are_unique_and_kinds_known():
    cases = list(all_cases())
    assert [name for name, count in Counter(case.name for case in cases).items() if count > 1] == []
    assert {case.kind for case in cases} == set(STAGES)
    for case in [*cases, *random_cases(40, seed=3)]:
        assert case.summary.endswith(".")
        assert {array.dtype.name for array in case.inputs.values()} <= {"uint8", "int32", "float32"}
        assert all(array.flags.c_contiguous for array in case.inputs.values())
        assert json.loads(json.dumps(dict(case.options))) == dict(case.options)


def test_every_pitfall_has_its_case():
    named = {case.name.removeprefix("pitfall-"): case for case in all_cases() if case.pitfall}
    assert set(named) == PITFALLS
    assert all(case.name.startswith("pitfall-") for case in named.values())


def test_what_the_corpus_promises_is_there():
    cases = {case.name: case for case in all_cases()}
    orientations = {case.options.get("exif_orientation") for case in cases.values()}
    assert orientations >= set(range(1, 9))
    assert {case.options.get("max_soft_tokens", 280) for case in select_cases(["image"])} == set(SOFT_TOKEN_BUDGETS)
    sounds = [case.inputs["samples"] for case in select_cases(["audio"]) if case.options.get("given_as") != "file"]
    assert {len(samples) % 640 for samples in sounds} >= {0, 1, 2, 319, 320, 321, 638, 639}
    assert max(map(len, sounds)) > 30 * 16_000
    frames = {len(case.inputs["frames"]) for case in select_cases(["video"]) if "num_frames" not in case.options}
    assert min(frames) < 32 < max(frames)
    assert 32 in frames
    sides = [case.inputs["pixels"].shape[:2] for case in select_cases(["size-*"])]
    assert {min(shape) for shape in sides} >= {1, 2}
    longest = cases["pitfall-block-over-window"]
    assert (longest.inputs["token_types"] == 1).sum() > longest.options["sliding_window"]


def test_a_random_case_depends_on_seed_and_index_alone():
    whole = list(random_cases(24, seed=5))
    assert digest([random_case(5, 17)]) == digest([whole[17]])
    assert whole[17].name == "random-conversation-5-17"
    assert digest(random_cases(8, seed=5)) != digest(random_cases(8, seed=6))
    assert {case.kind for case in whole} == set(STAGES)
    with pytest.raises(InputError, match="at least 0"):
        random_case(-1, 0)


def test_patterns_select_by_name_and_kind():
    assert [case.name for case in select_cases(["exif-*"])] == [f"exif-{n}" for n in range(1, 9)]
    assert {case.kind for case in select_cases(["masks", "exif-1"])} == {"masks", "image"}
    assert len(select_cases()) == len(list(all_cases()))
    with pytest.raises(InputError, match=r"no case is named like 'exfi-\*'"):
        select_cases(["exif-*", "exfi-*"])


def test_inputs_of_a_case_are_contiguous_and_its_fields_frozen():
    case = Case(name="x", kind="image", inputs={"pixels": np.zeros((4, 6, 3), np.uint8)[:, ::2]}, summary="X.")
    assert case.inputs["pixels"].flags.c_contiguous
    with pytest.raises(TypeError):
        case.options["new"] = 1


def test_the_hash_is_murmur3s_finaliser():
    def slow(value, seed):
        value = (value + seed * 0x9E3779B9) % 2**32
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            value = (value ^ value >> shift) * factor % 2**32
        return value ^ value >> 16

    numbers = np.array([0, 1, 2, 640, 2**31, 2**32 - 1], np.int64)
    for seed in (0, 1, 12_345):
        assert patterns.hash32(numbers, seed=seed).tolist() == [slow(int(n), seed) for n in numbers]


def test_samples_are_exact_and_within_their_level():
    for samples in (patterns.tone(5_000), patterns.chirp(5_000)):
        assert samples.dtype == np.float32
        assert 0.49 < np.abs(samples).max() <= 0.5
    hiss = patterns.hiss(50_000)
    assert (hiss * 32_768 == np.round(hiss * 32_768)).all()
    assert -1 <= hiss.min() < -0.99
    assert 0.99 < hiss.max() < 1


def test_the_swapping_profile_is_a_profile_that_swaps():
    """Pillow's own colour engine reads it: applying it exchanges red and blue."""
    import io

    from PIL import Image, ImageCms

    from gemma4_mm.conformance.cases.images import swapping_profile

    profile = ImageCms.ImageCmsProfile(io.BytesIO(swapping_profile()))
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    shown = ImageCms.profileToProfile(red, profile, ImageCms.createProfile("sRGB"), outputMode="RGB").getpixel((0, 0))
    assert shown[2] > 200
    assert shown[0] < 60
