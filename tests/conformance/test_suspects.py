"""Every suspect recognises itself: what it computes for a case is named after it, and it exists for some case."""

import numpy as np
import pytest

from gemma4_mm.conformance.cases import select_cases
from gemma4_mm.conformance.formulas import add_formula_stages
from gemma4_mm.conformance.suspects import THEORIES, Scene, find_suspects
from gemma4_mm.conformance.suspects.scene import same_bits
from tests.conformance import faults

# Few and small, but every suspect shows in one of them.
CASES = (
    "image-letters", "image-corners", "size-upscaled-one-axis-most", "budget-140", "exif-6",
    "mode-alpha", "mode-gray-key",
    "pitfall-icc-profile", "budget-280", "video-4-of-45", "video-uneven", "video-portrait", "video-fps-0-5",
    "video-1-of-61", "video-13-of-15",
    "audio-noise", "audio-remainder-319", "audio-length-641", "audio-truncated", "audio-file-stereo-44k",
    "pitfall-audio-cap", "pitfall-audio-off-by-one", "masks-audio-beside-image", "masks-adjacent-blocks",
    "masks-left-padded", "masks-right-padded", "masks-two-images",
    "talk-batch", "talk-one-turn", "media-mixed", "media-video", "media-batch",
)  # fmt: skip
# They start from what a subject has of an earlier stage; the planted faults show them.
CONSEQUENCES = {"follows-from-source-rgb", "follows-from-resized-rgb", "follows-multiplied"}


@pytest.fixture(scope="module")
def right_stages(assets):  # noqa: ARG001 (fills the cache)
    cases = select_cases(CASES)
    return [(case, add_formula_stages(case, faults.right(case))[0]) for case in cases]


def test_names_are_unique_and_words_continue_a_sentence():
    names = [theory.name for theory in THEORIES]
    assert len(set(names)) == len(names)
    assert all(theory.words and not theory.words.endswith(".") for theory in THEORIES)


def test_every_suspect_recognises_itself(right_stages):
    """Where its values differ from the right ones, it must be found."""
    found = set()
    for case, expected in right_stages:
        for theory in THEORIES:
            for stage in theory.stages:
                if theory.name in CONSEQUENCES or stage not in expected or not theory.applies(case, stage):
                    continue
                if theory.name in found and stage in ("patches", "resized_rgb"):
                    continue  # the large ones once
                computed = theory.compute(Scene(case=case, expected=expected, actual=expected), stage)
                if computed is None or computed.dtype.kind != expected[stage].dtype.kind:
                    continue
                if computed.shape == expected[stage].shape and same_bits(computed, expected[stage]).all():
                    continue
                scene = Scene(case=case, expected=expected, actual={stage: computed})
                suspects = find_suspects(scene, stage, likely=[theory.name])
                assert suspects, (case.name, stage, theory.name)
                assert suspects[0].explained == 1
                assert suspects[0].name == theory.name
                found.add(theory.name)
    assert {theory.name for theory in THEORIES} - found - CONSEQUENCES == set()


def test_what_no_suspect_gives_is_not_explained(right_stages):
    """Values out of nowhere: nobody is accused."""
    for case, expected in right_stages[::4]:
        for stage, array in expected.items():
            if array.dtype == np.float32 and array.size and stage != "pcm":
                wrong = array + np.float32(0.123) * (1 + np.arange(array.size, dtype=np.float32)).reshape(array.shape)
                scene = Scene(case=case, expected=expected, actual={stage: wrong})
                assert find_suspects(scene, stage) == ()


def test_a_suspect_that_would_differ_elsewhere_is_not_named(right_stages):
    """One pixel as Pillow would make it is no sign of Pillow."""
    (case, expected), *_ = [pair for pair in right_stages if pair[0].name == "image-letters"]
    theirs = faults.pillow_resize(case)["resized_rgb"]
    mixed = expected["resized_rgb"].copy()
    place = tuple(np.argwhere(theirs != mixed)[0])
    mixed[place] = theirs[place]
    scene = Scene(case=case, expected=expected, actual={"resized_rgb": mixed})
    assert find_suspects(scene, "resized_rgb", likely=["pillow-bicubic"]) == ()
