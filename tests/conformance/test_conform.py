"""`gemma4-mm conform`: what a port left out, wrote wrongly or damaged is named, and nothing else is."""

import json
import shutil
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gemma4_mm.cli.app import run
from gemma4_mm.conformance.conform import conform
from gemma4_mm.conformance.golden import Fixtures
from gemma4_mm.conformance.records import STAGES, ParityReport
from gemma4_mm.errors import InputError
from tests.conformance.ports import FIXTURES

CASES = ["budget-140", "exif-6", "audio-length-641", "video-uneven", "media-two-sounds", "masks-left-padded"]


@pytest.fixture(scope="module")
def fixtures():
    return Fixtures.open(FIXTURES)


@pytest.fixture(scope="module")
def right(tmp_path_factory, fixtures):
    """What a port that makes no mistake writes for a few cases."""
    folder = tmp_path_factory.mktemp("right")
    for name in CASES:
        save_file(fixtures.expected(name), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def port(tmp_path, right):
    """The same, to be spoilt by a test."""
    shutil.copytree(right, tmp_path / "port")
    return tmp_path / "port"


def rewrite(port, name, **changes):
    """Change tensors of a case; None takes one away."""
    tensors = {**load_file(port / f"{name}.safetensors"), **changes}
    kept = {key: np.ascontiguousarray(value) for key, value in tensors.items() if value is not None}
    save_file(kept, port / f"{name}.safetensors")


def failures(fixtures, port, *names, **options):
    return conform(fixtures, port, patterns=names or CASES, **options).failures


def test_equal_output_passes(fixtures, port):
    report = conform(fixtures, port, patterns=CASES)
    assert report.passed
    assert report.n_cases == len(CASES)
    assert {result.status for result in report.results} == {"equal"}
    assert report.versions == fixtures.manifest.producers
    formulas = {result.stage for result in report.results if result.oracle == "formula"}
    assert formulas == {"mask_sliding_deepmind", "mask_global_deepmind", "chunk_plan"}


def test_every_expected_tensor_was_compared(fixtures, port):
    report = conform(fixtures, port, patterns=CASES)
    compared = {(result.case, result.stage): result.n_values for result in report.results}
    expected = {
        (name, stage): int(np.prod(entry.shape))
        for name in CASES
        for stage, entry in fixtures.manifest.cases[name].expected.items()
    }
    assert compared == expected


def test_a_folder_of_npy_files_is_read_in_any_order_of_memory(fixtures, port):
    tensors = load_file(port / "budget-140.safetensors")
    (port / "budget-140.safetensors").unlink()
    (port / "budget-140").mkdir()
    for name, value in tensors.items():
        np.save(port / "budget-140" / f"{name}.npy", np.asfortranarray(value))
    assert failures(fixtures, port) == ()


def test_a_missing_case_is_named(fixtures, port):
    (port / "exif-6.safetensors").unlink()
    missing = failures(fixtures, port)
    assert [result.stage for result in missing] == list(STAGES["image"])
    assert {result.status for result in missing} == {"missing"}
    assert missing[0].message == (
        "case exif-6, stage source_rgb: there is neither exif-6.safetensors nor a folder exif-6; run the port on this "
        "case"
    )


def test_a_missing_stage_is_named(fixtures, port):
    rewrite(port, "exif-6", position_ids=None)
    (missing,) = failures(fixtures, port)
    assert (missing.stage, missing.status) == ("position_ids", "missing")


def test_an_unfinished_port_may_leave_out_cases_and_stages(fixtures, port):
    (port / "exif-6.safetensors").unlink()
    rewrite(port, "budget-140", patches=None)
    assert len(failures(fixtures, port)) == 1 + len(STAGES["image"])
    assert failures(fixtures, port, partial=True) == ()
    rewrite(port, "budget-140", soft_tokens=np.array([1], np.int32))
    (wrong,) = failures(fixtures, port, partial=True)
    assert wrong.stage == "soft_tokens"


def test_a_port_that_wrote_nothing_does_not_pass(fixtures, tmp_path):
    assert not conform(fixtures, tmp_path).passed
    assert not conform(fixtures, tmp_path, partial=True).passed


def test_an_unknown_stage_is_named(fixtures, port):
    rewrite(port, "exif-6", position_idz=np.zeros(2, np.int32))
    (extra,) = failures(fixtures, port)
    assert (extra.stage, extra.status) == ("position_idz", "extra")


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("budget-140", "source_rgb"),
        ("audio-length-641", "pcm"),
        ("media-two-sounds", "prompt"),
    ],
)
def test_what_a_port_was_given_is_compared_if_it_is_written(fixtures, port, name, stage):
    value = fixtures.stages_given(name)[stage].copy()
    rewrite(port, name, **{stage: value})
    assert failures(fixtures, port) == ()
    value[-1:].view(np.uint8).flat[0] ^= 1
    rewrite(port, name, **{stage: value})
    (wrong,) = failures(fixtures, port)
    assert (wrong.stage, wrong.status) == (stage, "different")


@pytest.mark.parametrize("name", CASES)
def test_one_changed_bit_of_any_stage_is_found(fixtures, port, name):
    """Of every tensor the last value, in its last bit; a plan is judged by its properties instead."""
    for stage, value in fixtures.expected(name).items():
        if stage == "chunk_plan":
            continue
        changed = value.copy()
        changed.reshape(-1)[-1:].view(np.uint8)[0] ^= 1
        rewrite(port, name, **{stage: changed})
        (wrong,) = failures(fixtures, port, name)
        assert (wrong.stage, wrong.status, wrong.n_different) == (stage, "different", 1)
        rewrite(port, name, **{stage: value})


def test_a_plan_may_cut_text_elsewhere_but_no_block(fixtures, port):
    plan = fixtures.expected("masks-left-padded")["chunk_plan"]
    assert plan.tolist()[0] == [0, 0, 5]
    moved = plan.copy()
    moved[0, 2] = moved[1, 1] = 4  # text
    rewrite(port, "masks-left-padded", chunk_plan=moved)
    assert failures(fixtures, port, "masks-left-padded")[0].message.endswith("the limit is 12")
    cut = plan.copy()
    cut[0, 2] = cut[1, 1] = 9
    rewrite(port, "masks-left-padded", chunk_plan=cut)
    assert "ends inside the vision block" in failures(fixtures, port, "masks-left-padded")[0].message


def test_whole_numbers_may_be_wider_and_floats_may_not(fixtures, port):
    tensors = load_file(port / "audio-length-641.safetensors")
    rewrite(
        port,
        "audio-length-641",
        soft_tokens=tensors["soft_tokens"].astype(np.int64),
        frames_mask=tensors["frames_mask"].astype(bool),
    )
    assert failures(fixtures, port) == ()
    rewrite(port, "audio-length-641", frames=tensors["frames"].astype(np.float64))
    (wrong,) = failures(fixtures, port)
    assert (wrong.stage, wrong.status) == ("frames", "dtype")


def test_the_sign_of_zero_is_a_difference(fixtures, port):
    frames = load_file(port / "audio-length-641.safetensors")["frames"]
    assert frames[-1, -1] == 0
    frames[-1, -1] = -0.0
    rewrite(port, "audio-length-641", frames=frames)
    (wrong,) = failures(fixtures, port)
    assert wrong.n_different == 1


def npy_header(text):
    padded = text + " " * (64 - (10 + len(text) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode()


SPOILT = {
    "empty": ("exif-6.safetensors", b""),
    "text": ("exif-6.safetensors", b"this is not a tensor file"),
    "long header": ("exif-6.safetensors", struct.pack("<Q", 1 << 60) + b"{}"),
    "cut off": ("exif-6.safetensors", "cut"),
    "bfloat16": ("exif-6.safetensors", "bfloat16"),
    "npy of text": ("exif-6/patches.npy", b"hello"),
    "npy of nothing": ("exif-6/patches.npy", b""),
    "npy cut off": (
        "exif-6/patches.npy",
        npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }") + b"12345",
    ),
    "npy of objects": (
        "exif-6/patches.npy",
        npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + b"1",
    ),
    "npy forged": (
        "exif-6/patches.npy",
        npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }"),
    ),
    "npy of no dict": ("exif-6/patches.npy", npy_header("[1, 2]")),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_damaged_file_is_an_error_in_words_and_the_rest_is_compared(fixtures, port, name):
    file, content = SPOILT[name]
    original = (port / "exif-6.safetensors").read_bytes()
    (port / "exif-6.safetensors").unlink()
    if content == "cut":
        content = original[:-100]
    if content == "bfloat16":
        import ml_dtypes  # noqa: F401 (safetensors then reads it)

        header = json.dumps({"patches": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
        content = struct.pack("<Q", len(header)) + header + bytes(4)
    (port / file).parent.mkdir(exist_ok=True)
    (port / file).write_bytes(content)
    report = conform(fixtures, port, patterns=CASES)
    (wrong,) = report.failures
    assert (wrong.case, wrong.status) == ("exif-6", "error")
    assert file.partition("/")[0] in wrong.message
    assert "SCHEMA.md" in wrong.message
    assert report.n_cases == len(CASES)


def test_damaged_fixtures_are_refused_and_clients_at_work_are_not(tmp_path, port):
    copy = tmp_path / "fixtures"
    shutil.copytree(FIXTURES, copy)
    (copy / "clients" / "kotlin").mkdir()
    (copy / "clients" / "kotlin" / "Port.kt").write_text("// to do", encoding="utf-8")
    assert conform(Fixtures.open(copy), port, patterns=CASES).passed
    manifest = (copy / "manifest.json").read_text(encoding="utf-8")
    (copy / "manifest.json").write_text(manifest.replace('"window": 7', '"window": 8'), encoding="utf-8")
    with pytest.raises(InputError, match=r"damaged \(manifest.json: changed\); run gemma4-mm fixtures verify"):
        conform(Fixtures.open(copy), port, patterns=CASES)


def test_two_forms_of_one_case_are_refused(fixtures, port):
    (port / "exif-6").mkdir()
    (wrong,) = failures(fixtures, port)
    assert "remove one of them" in wrong.message


def test_a_file_of_no_case_is_refused(fixtures, port):
    (port / "notes.txt").touch()
    assert failures(fixtures, port) == ()
    (port / "exif6.safetensors").touch()
    with pytest.raises(InputError, match=r"holds exif6\.safetensors, and no case is named so"):
        conform(fixtures, port)


# The command


def test_the_command_prints_failures_and_writes_the_report(port, tmp_path, capsys):
    words = ["conform", str(FIXTURES), str(port), *(word for name in CASES for word in ("--cases", name))]
    assert run([*words, "--report", str(tmp_path / "report.json")]) == 0
    positions = load_file(port / "exif-6.safetensors")["position_ids"]
    rewrite(port, "exif-6", position_ids=positions[:, ::-1])
    capsys.readouterr()
    assert run([*words, "--report", str(tmp_path / "report.json")]) == 1
    out = capsys.readouterr().out
    assert "case exif-6, stage position_ids, patch 1, x: 0, expected 1" in out
    report = ParityReport.from_json((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [failure.stage for failure in report.failures] == ["position_ids"]
    assert report.reference == "fixtures of transformers 5.24.0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{fixtures}", "nowhere"], "nowhere is no directory"),
        (["nowhere", "{port}"], "cannot read nowhere"),
        (["{fixtures}", "{port}", "--cases", "exif-9*"], "no case is named like 'exif-9*'"),
        (["{fixtures}", "{port}", "--report", "report.pdf", "--cases", "exif-6"], "report.pdf"),
    ],
)
def test_a_bad_command_line_is_one_line(port, capsys, words, message):
    assert run(["conform", *(word.format(fixtures=FIXTURES, port=port) for word in words)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_cases_are_chosen_by_kind_too(fixtures, port):
    report = conform(fixtures, port, patterns=["audio"])
    assert {result.kind for result in report.results} == {"audio"}
    assert report.n_cases == 28
