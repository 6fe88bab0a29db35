"""`gemma4-mm parity`: its table, its words, its exit codes."""

import numpy as np
import pytest

from gemma4_mm.cli.app import run
from gemma4_mm.conformance.cases import select_cases
from gemma4_mm.conformance.records import ParityReport
from tests.conformance import faults


@pytest.mark.parity
def test_our_own_cases_are_all_zero(assets, capfd, tmp_path):  # noqa: ARG001 (fills the cache)
    path = tmp_path / "report.json"
    words = ["parity", "--cases", "exif-*", "--cases", "pitfall-chunk-inside-block", "--random", "3", "--seed", "4"]
    assert run([*words, "--report", str(path)]) == 0
    out = capfd.readouterr().out
    assert "against transformers 5.24.0" in out
    assert "all zero: no value differs in a single bit (12 cases, 3 of them random (seed 4)" in out
    assert "* compared with the rule's formula" in out
    assert f"wrote {path}" in out
    report = ParityReport.from_json(path.read_text())
    assert report.passed
    assert {f"exif-{n}" for n in range(1, 9)} < {result.case for result in report.results}


@pytest.mark.parity
def test_a_subject_with_pillows_resize_fails_and_is_told_so(assets, capfd, tmp_path):  # noqa: ARG001
    path = tmp_path / "report.json"
    words = ["parity", "--cases", "image-letters", "--cases", "exif-2"]
    assert run([*words, "--subject", "tests.conformance.faults:pillow_resize", "--report", str(path)]) == 1
    out = capfd.readouterr().out
    assert "2 cases differ, in 4 stages" in out
    assert "2 × Pillow's bicubic" in out
    assert "this looks like Pillow's bicubic" in out
    assert "all zero" not in out
    assert not ParityReport.from_json(path.read_text()).passed


@pytest.mark.parity
def test_a_directory_of_some_stages_passes_with_what_it_has(assets, capfd, tmp_path):  # noqa: ARG001
    (case,) = select_cases(["exif-6"])
    (tmp_path / "exif-6").mkdir()
    for stage in ("target_size", "resized_rgb"):
        np.save(tmp_path / "exif-6" / f"{stage}.npy", faults.right(case)[stage])
    words = ["parity", "--cases", "exif-6", "--subject-dir", str(tmp_path)]
    assert run(words) == 0
    out = capfd.readouterr().out
    assert "4 stages were not given, and not compared" in out
    assert "(not given in 1)" in out
    np.save(tmp_path / "exif-6" / "target_size.npy", np.array([48, 48], np.int32))
    assert run(words) == 1


def test_the_list_of_cases(capfd):
    assert run(["parity", "--list", "--cases", "exif-*", "--cases", "audio"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["exif-1", "exif-2"]
    assert {line.split()[1] for line in lines} == {"image", "audio"}
    assert len(lines) == len(select_cases(["exif-*", "audio"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cases", "nothing-like-it"], "--list shows all"),
        (["--subject", "a:b", "--subject-dir", "."], "two subjects"),
        (["--report", "report.pdf"], "a report ends in"),
        (["--report", "no/folder/report.json"], "no directory"),
        (["--python", "/no/such/python"], "no program"),
    ],
)
def test_a_bad_command_line_is_refused_in_words(words, message, capfd, assets):  # noqa: ARG001 (fills the cache)
    assert run(["parity", *words]) == 1
    captured = capfd.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_negative_count_is_a_usage_error(capfd):
    assert run(["parity", "--random", "-1"]) == 2
    assert "--random" in capfd.readouterr().err
