"""Reports made by hand, as a run would make them: all equal, and with every sort of difference."""

import numpy as np

from gemma4_mm.conformance.records import (
    STAGES,
    Crop,
    ParityReport,
    StageDifference,
    StageResult,
    Suspect,
)
from gemma4_mm.core.attention.masks import build_masks
from gemma4_mm.testing.strategies import make_picture

VERSIONS = {"transformers": "5.24.0", "torch": "2.14.1", "python": "3.11.9", "cpu_capability": "AVX512"}
HOSTILE = "<script>alert('case')</script>|`x`"


def equal_case(name, kind, **others):
    """Results of one case by stage, equal but for `others`."""
    results = []
    for stage in STAGES[kind]:
        result = StageResult(case=name, kind=kind, stage=stage, status="equal", n_values=1000)
        results.append(others.get(stage, result))
    return results


def passing_report(*, partial=False):
    results = [result for kind in STAGES for i in range(3) for result in equal_case(f"{kind}-{i}", kind)]
    if partial:
        left_out = StageResult(case="image-9", kind="image", stage="source_rgb", status="missing", n_values=1000)
        results += equal_case("image-9", "image", source_rgb=left_out)
    return ParityReport(
        subject="gemma4-mm", reference="transformers 5.24.0", versions=VERSIONS, profile="transformers-5.24",
        seed=7, n_random=6, partial=partial, results=tuple(results),
    )  # fmt: skip


def pixel_crop():
    """A picture of which seven pixels are off by one or two levels in one channel."""
    expected = make_picture("photo", height_px=32, width_px=40, seed=3)
    actual = expected.copy()
    for place in range(7):
        actual[4 * place, 5 * place, place % 3] = expected[4 * place, 5 * place, place % 3] ^ (1 + place % 2)
    return Crop(expected=expected, actual=actual, origin=(64, 0), where="frame 2")


def mask_crop():
    """A sliding mask whose window is one key too wide, and which does not see one key that it must see."""
    types = np.repeat([[0, 1, 0]], [4, 9, 12], axis=1)
    expected, actual = (
        build_masks(types, sliding_window=window).mask_sliding[0, 0].astype(np.uint8) for window in (6, 7)
    )
    actual[20, 18] = 0
    kinds = types[0].astype(np.uint8)
    return Crop(expected=expected, actual=actual, origin=(0, 0), kinds=(kinds, kinds))


def failing_report():
    resized = different(
        "exif-6", "image", "resized_rgb", "pixel (row 12, column 40) channel G: 131, expected 130",
        n_different=1834, histogram={"1": 1800, "2": 30, "3-4": 4}, crop=pixel_crop(),
        suspects=(Suspect(name="pillow-bicubic", words="Pillow's bicubic", explained=0.97),),
    )  # fmt: skip
    patches = different("exif-6", "image", "patches", "patch 3: 0.5, expected 0.51", histogram={"nan": 5, "9-16": 2})
    mask = different("window", "masks", "mask_sliding_forward", "query 6, key 0: visible, expected hidden",
                     n_different=17, histogram={"1": 17}, crop=mask_crop())  # fmt: skip
    shape = StageResult(
        case=HOSTILE, kind="audio", stage="frames", status="shape", n_values=640,
        message=f"case {HOSTILE}, stage frames has shape (1, 640), expected (2, 640) & <b>more</b>",
    )  # fmt: skip
    refused = StageResult(
        case="tiny", kind="image", stage="outcome", status="error", n_values=1,
        message="case tiny: the subject refuses it, the reference does not",
    )  # fmt: skip
    results = [
        *equal_case("exif-6", "image", resized_rgb=resized, patches=patches),
        refused,
        *equal_case(HOSTILE, "audio", frames=shape),
        *equal_case("window", "masks", mask_sliding_forward=mask),
        *passing_report().results,
    ]
    return ParityReport(
        subject="port_<i>one</i>:run", reference="transformers 5.24.0", versions=VERSIONS | {"odd_<u>": "1|2"},
        profile="transformers-5.24", notes={"exif-6": "EXIF <orientation> is ignored"}, results=tuple(results),
    )  # fmt: skip


def different(case, kind, stage, first, *, n_different=7, histogram, crop=None, suspects=()):
    words = f": this looks like {suspects[0].words}" if suspects else ""
    return StageResult(
        case=case, kind=kind, stage=stage, status="different", n_values=766_080,
        difference=StageDifference(n_different=n_different, histogram=histogram, first=first, crop=crop),
        message=f"case {case}, stage {stage}, {first}{words}", suspects=suspects,
    )  # fmt: skip
