"""The oracle's process: what it says when it cannot run, when it refuses, and when it dies."""

import subprocess
import sys

import numpy as np
import pytest

from gemma4_mm.conformance.cases import select_cases
from gemma4_mm.conformance.process import CaseProcess, Refused
from gemma4_mm.conformance.records import Case
from gemma4_mm.conformance.reference import Reference
from gemma4_mm.conformance.run import run_parity
from gemma4_mm.conformance.subject import DirectorySubject, load_subject
from gemma4_mm.errors import AssetError, ExecutionError, InputError
from tests.conformance import faults

CASE = Case(name="x", kind="masks", inputs={"token_types": np.zeros((1, 4), np.int32)}, summary="X.")


def test_an_interpreter_that_is_none(assets):  # noqa: ARG001 (fills the cache)
    with pytest.raises(InputError, match="no program"):
        Reference(python="/no/such/python")


def test_an_interpreter_without_the_packages(tmp_path, assets):  # noqa: ARG001 (fills the cache)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    with pytest.raises(
        InputError, match=r"No module named '\w+'; install it there with: pip install 'gemma4-mm\[parity\]'"
    ):
        Reference(python=tmp_path / "bare" / "bin" / "python")


def test_no_tokenizer(tmp_path):
    with pytest.raises(AssetError, match=r"tokenizer\.json"):
        Reference(tokenizer=tmp_path)


def worker(tmp_path, body):
    """A worker of one's own, as a port's author would write it."""
    from gemma4_mm.conformance.process import ORACLE_DIRECTORY

    script = tmp_path / "worker.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ORACLE_DIRECTORY)!r})\nimport serve, os\nimport numpy as np\n"
        f"def compute(case, inputs, folder):\n    {body}\n"
        "serve.serve(lambda: (compute, {'mine': '1'}))\n"
    )
    return CaseProcess(sys.executable, script)


def test_a_worker_of_ones_own(tmp_path):
    with worker(tmp_path, "print('noise'); return {'twice': inputs['token_types'] * 2}") as process:
        assert process.versions["mine"] == "1"
        for _ in range(2):
            assert np.array_equal(process.stages(CASE)["twice"], np.zeros((1, 4)))


def test_refusals_failures_and_the_end_of_a_worker(tmp_path):
    with (
        worker(tmp_path, "raise ValueError('too long')") as process,
        pytest.raises(Refused, match="ValueError: too long"),
    ):
        process.stages(CASE)
    with worker(tmp_path, "return nonsense") as process, pytest.raises(ExecutionError, match="nonsense"):
        process.stages(CASE)
    with worker(tmp_path, "print('last words', flush=True); os._exit(7)") as process:
        with pytest.raises(ExecutionError, match=r"ended with code 7: last words"):
            process.stages(CASE)
        with pytest.raises(ExecutionError, match="code 7"):
            process.stages(CASE)


def test_two_cases_at_once_are_an_error_of_the_caller(tmp_path):
    with worker(tmp_path, "return {}") as process:
        process.start(CASE)
        with pytest.raises(ValueError, match="not finished"):
            process.start(CASE)


@pytest.mark.parametrize(
    "name", ["module", "module:", ":name", "no_such_module_here:f", "tests.conformance.faults:nope"]
)
def test_a_subject_that_is_not_there(name):
    with pytest.raises(InputError, match="--subject"):
        load_subject(name)
    with pytest.raises(InputError, match="callable"):
        load_subject("tests.conformance.faults:BUDGETS")


def test_a_directory_of_stages(tmp_path, assets):  # noqa: ARG001 (fills the cache)
    from safetensors.numpy import save_file

    first, second, third = select_cases(["exif-1", "exif-2", "exif-3"])
    save_file(faults.right(first), tmp_path / "exif-1.safetensors")
    (tmp_path / "exif-2").mkdir()
    for stage, array in faults.right(second).items():
        np.save(tmp_path / "exif-2" / f"{stage}.npy", array)
    subject = DirectorySubject(tmp_path)
    for case in (first, second):
        expected = faults.right(case)
        actual = subject(case)
        assert set(actual) == set(expected)
        assert all(np.array_equal(actual[name], expected[name]) for name in expected)
    assert subject(third) == {}
    (tmp_path / "exif-3.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="exif-3"):
        subject(third)
    with pytest.raises(InputError, match="no directory"):
        DirectorySubject(tmp_path / "nowhere")


@pytest.mark.parity
def test_a_damaged_subject_file_is_a_difference_and_ends_nothing(tmp_path, reference):
    (tmp_path / "exif-1.safetensors").write_bytes(b"no")
    cases = select_cases(["exif-1", "exif-2"])
    report = run_parity(cases, DirectorySubject(tmp_path), reference, subject_name="d", profile="p", partial=True)
    assert [result.status for result in report.failures] == ["error"]
    assert "exif-1" in report.failures[0].message
