"""What `conform` says of right values in a wrong form, of files that are not there, and how long it searches."""

import numpy as np
import pytest

from gemma4_mm.conformance import conform as conforming
from gemma4_mm.conformance.compare import Outcome, compare_case
from gemma4_mm.conformance.conform import conform
from gemma4_mm.conformance.golden import Fixtures
from gemma4_mm.conformance.summary import format_report
from gemma4_mm.conformance.tensor_files import safetensors_bytes
from tests.conformance.ports import FIXTURES


@pytest.fixture(scope="module")
def fixtures():
    return Fixtures.open(FIXTURES)


def messages(fixtures, name, **changes):
    """What is said of a case whose stages are changed; None takes one away."""
    right = fixtures.expected(name)
    actual = {key: value for key, value in {**right, **changes}.items() if value is not None}
    results = compare_case(fixtures.case(name), Outcome(stages=right), Outcome(stages=actual))
    return {result.stage: result.message for result in results if result.status != "equal"}


def test_a_mask_of_255_is_said(fixtures):
    mask = fixtures.expected("masks-image")["mask_sliding_forward"]
    said = messages(fixtures, "masks-image", mask_sliding_forward=mask * np.uint8(255))["mask_sliding_forward"]
    assert "key 0: 255, expected visible" in said
    assert "this looks like 255 for visible instead of 1" in said


def test_a_batch_axis_is_said(fixtures):
    value = fixtures.expected("budget-140")["patches"][None]
    assert messages(fixtures, "budget-140", patches=value)["patches"].endswith(
        "it has a batch axis of 1 in front; write the tensor without it"
    )


def test_exchanged_axes_are_said(fixtures):
    pixels = fixtures.expected("exif-6")["source_rgb"]
    said = messages(fixtures, "exif-6", source_rgb=np.ascontiguousarray(pixels.transpose(2, 0, 1)))["source_rgb"]
    assert said.endswith("its axes are exchanged; write it transposed, axes (1, 2, 0) of yours")


def test_another_name_is_said(fixtures):
    patches = fixtures.expected("budget-140")["patches"]
    said = messages(fixtures, "budget-140", patches=None, pixel_values=patches)
    assert said["pixel_values"].endswith("it holds the values of patches; name it patches")
    said = messages(fixtures, "budget-140", patches=None, pixel_values=patches + np.float32(1))
    assert said["pixel_values"].endswith("SCHEMA.md calls it patches; name it so")


def test_a_port_that_stopped_is_told_where_and_what_to_do(fixtures, tmp_path):
    names = list(fixtures.manifest.cases)
    (tmp_path / f"{names[0]}.safetensors").write_bytes(safetensors_bytes(fixtures.expected(names[0])))
    (tmp_path / f"{names[1]}.safetensors").touch()
    text = format_report(conform(fixtures, tmp_path))
    assert f"cases were not written, the first of them {names[2]}: if the port stopped there, run it on this" in text
    assert f"{names[1]}.safetensors is empty: the program stopped before it had written it" in text
    assert "no known mistake" not in text


def test_the_search_for_known_mistakes_ends(fixtures, tmp_path, monkeypatch):
    """After a few cases only the suspects that were found are tried."""
    asked = []

    def counting(_scene, stage, *, known, **_options):
        asked.append((stage, known is None))
        return ()

    monkeypatch.setattr("gemma4_mm.conformance.compare.find_suspects", counting)
    for name in (name for name, case in fixtures.manifest.cases.items() if case.kind == "audio"):
        right = fixtures.expected(name)
        wrong = {**right, "frames": right["frames"] + np.float32(0.3)}
        (tmp_path / f"{name}.safetensors").write_bytes(safetensors_bytes(wrong))
    assert not conform(fixtures, tmp_path, patterns=["audio"]).passed
    assert [whole for _, whole in asked] == [place < conforming.MOST_SEARCHES for place in range(len(asked))]
    assert len(asked) > 20
