"""The committed fixtures: rebuilt byte for byte, held to the live oracle, and red at one flipped byte."""

import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from gemma4_mm.cli.app import run
from gemma4_mm.conformance.cases import all_cases
from gemma4_mm.conformance.golden import PRODUCERS, Fixtures, build_fixtures, measure, selection, verify_fixtures
from gemma4_mm.conformance.golden.checksums import SUMS, check_sums, checksums
from gemma4_mm.conformance.golden.selection import describe_case, fixture_cases
from gemma4_mm.conformance.subject import OwnSubject
from gemma4_mm.conformance.tensor_files import read_safetensors, safetensors_bytes
from gemma4_mm.core.vision.patches import merge_patches
from gemma4_mm.errors import InputError, InvariantError
from tests.media.loading import load_image

COMMITTED = Path(__file__).parents[2] / "fixtures"
NAMES = list(Fixtures.open(COMMITTED).manifest.cases)


@pytest.fixture
def copy(tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(COMMITTED, tmp_path / "fixtures"))


def files_of(directory):
    return {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << position % 8
    path.write_bytes(content)


def test_a_rebuild_gives_the_committed_bytes(copy, processor):
    shutil.copytree(copy / "cases" / "exif-1", copy / "cases" / "exif-9")  # of a former selection: it must go
    (copy / "tokens.json").write_text("{}", encoding="utf-8")
    build_fixtures(copy, subject=OwnSubject(processor))
    rebuilt, committed = files_of(copy), files_of(COMMITTED)
    assert rebuilt.keys() == committed.keys()
    different = [name for name in rebuilt if rebuilt[name].read_bytes() != committed[name].read_bytes()]
    assert not different, f"run gemma4-mm fixtures build fixtures: {different}"
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_they_are_small_enough_for_a_repository():
    size = measure(COMMITTED)
    assert size.n_bytes <= 25_000_000
    assert size.largest_bytes <= 1_000_000
    assert size.n_cases == len(NAMES) >= 100


@pytest.mark.parity
def test_every_tensor_is_the_live_oracles():
    from gemma4_mm.conformance.reference import Reference

    fixtures = Fixtures.open(COMMITTED)
    with Reference() as reference:
        versions = {name: reference.versions[name].split("+")[0] for name in PRODUCERS}
        assert versions == PRODUCERS == fixtures.manifest.producers
        compared = 0
        for case in fixture_cases():
            theirs = describe_case(case, reference.stages(case)).expected
            ours = fixtures.expected(case.name)
            own = set(ours) - set(theirs)  # for which transformers has no counterpart
            assert own <= {"mask_sliding_deepmind", "mask_global_deepmind", "chunk_plan"}, case.name
            for name, value in theirs.items():
                assert (value.dtype, value.shape) == (ours[name].dtype, ours[name].shape), (case.name, name)
                assert value.tobytes() == ours[name].tobytes(), (case.name, name)
                compared += 1
    assert compared > 400


def test_a_selected_case_that_the_corpus_lost_is_no_silent_gap(monkeypatch):
    monkeypatch.setattr(selection, "SELECTION", (*selection.SELECTION, "exif-9"))
    with pytest.raises(InvariantError, match="no case of the corpus is named exif-9"):
        list(fixture_cases())


def test_every_pitfall_that_a_port_can_meet_is_there():
    elsewhere = {  # of decoders, resamplers, templates and refusals, or over a megabyte
        "pitfall-three-pixels-tall": "an array without a declared layout",
        "pitfall-audio-not-resampled": "resampling",
        "pitfall-audio-cap": "in bytes: pitfall-audio-cap-bytes",
        "pitfall-placeholder-without-image": "a refusal",
    }
    pitfalls = {case.name for case in all_cases() if case.pitfall}
    assert pitfalls - set(NAMES) == elsewhere.keys()
    cap = next(case for case in all_cases() if case.name == "pitfall-audio-cap")
    assert cap.pitfall in Fixtures.open(COMMITTED).manifest.cases["pitfall-audio-cap-bytes"].about


# Their bytes


def test_files_are_as_the_schema_says():
    manifest = json.loads((COMMITTED / "manifest.json").read_text(encoding="utf-8"))
    seen = {"safetensors": 0, "npy": 0}
    for name, case in manifest["cases"].items():
        for part in ("inputs", "expected"):
            entries = case[part]
            tensors = parse_safetensors((COMMITTED / "cases" / name / f"{part}.safetensors").read_bytes())
            whole = {key for key, entry in entries.items() if entry.get("stored", True)}
            samples = {f"{key}.{end}" for key in entries.keys() - whole for end in ("rows", "row_ids")}
            assert tensors.keys() == whole | samples
            for key in whole:
                dtype, shape, data = tensors[key]
                assert [dtype, shape] == [entries[key]["dtype"], entries[key]["shape"]]
                assert hashlib.sha256(data).hexdigest() == entries[key]["sha256"]
            seen["safetensors"] += len(tensors)
            folder = COMMITTED / "cases" / name / part
            copies = {path.stem: parse_npy(path.read_bytes()) for path in folder.glob("*.npy")}
            assert copies == {key: value for key, value in tensors.items() if len(value[2]) <= 32_768}
            seen["npy"] += len(copies)
    assert min(seen.values()) > 500


def parse_safetensors(content):
    """A second reader, from the schema alone: an aligned header, no gaps, nothing else."""
    (length,) = struct.unpack_from("<Q", content)
    assert length % 8 == 0
    header = json.loads(content[8 : 8 + length])
    place = 0
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert begin == place
        assert end - begin == np.prod(entry["shape"], dtype=int) * {"U8": 1, "I32": 4, "F32": 4}[entry["dtype"]]
        place = end
        tensors[name] = (entry["dtype"], entry["shape"], content[8 + length + begin : 8 + length + end])
    assert 8 + length + place == len(content)
    return tensors


def parse_npy(content):
    assert content[:8] == b"\x93NUMPY\x01\x00"
    (length,) = struct.unpack_from("<H", content, 8)
    assert (10 + length) % 64 == 0
    header = eval(content[10 : 10 + length], {"__builtins__": {}})  # noqa: S307 (our own literal)
    assert header["fortran_order"] is False
    names = {"|u1": "U8", "<i4": "I32", "<f4": "F32"}
    return names[header["descr"]], list(header["shape"]), content[10 + length :]


def test_sampled_rows_are_rows_of_the_whole_tensor():
    fixtures = Fixtures.open(COMMITTED)
    name = "exact-fit-70"
    stored = read_safetensors(COMMITTED / "cases" / name / "expected.safetensors")
    whole = fixtures.expected(name)["patches"]
    assert np.array_equal(stored["patches.rows"], whole[stored["patches.row_ids"]])
    assert np.array_equal(whole, merge_patches(stored["resized_rgb"]))
    pixels = fixtures.expected("size-prime-sides")["resized_rgb"]
    rows = read_safetensors(COMMITTED / "cases" / "size-prime-sides" / "expected.safetensors")
    assert np.array_equal(rows["resized_rgb.rows"], pixels.reshape(len(pixels), -1)[rows["resized_rgb.row_ids"]])


def test_png_files_decode_to_the_source_that_is_expected():
    fixtures = Fixtures.open(COMMITTED)
    checked = 0
    for name, case in fixtures.manifest.cases.items():
        if "source_png" in case.inputs:
            rows = load_image(fixtures.inputs(name)["source_png"].tobytes())
            assert np.array_equal(rows.rows(0, rows.height_px), fixtures.expected(name)["source_rgb"]), name
            checked += 1
    assert checked >= 15


# verify


def test_verify_finds_nothing_wrong_with_the_committed_ones(capsys):
    assert run(["fixtures", "verify", str(COMMITTED)]) == 0
    assert "all as built" in capsys.readouterr().out


def test_one_flipped_byte_is_found_in_each_file(copy):
    """Each file has a checksum of its own, so that all can be damaged at once: each must be named."""
    files = files_of(copy)
    files.pop(SUMS)
    for number, path in enumerate(files.values()):
        flip(path, 7919 * number)
    assert check_sums(copy) == sorted(f"{name}: changed" for name in files)


SINGLES = [
    "manifest.json",
    "tokens.json",
    "SCHEMA.md",
    "SHA256SUMS",
    "clients/js/client.mjs",
    "cases/exif-6/inputs.safetensors",
    "cases/exif-6/expected.safetensors",
    "cases/exif-6/inputs/orientation.npy",
]


@pytest.mark.parametrize("name", SINGLES)
def test_verify_exits_with_1_for_one_flipped_byte(copy, capsys, name):
    original = (copy / name).read_bytes()
    for position in (0, 71, len(original) - 1):
        flip(copy / name, position)
        assert run(["fixtures", "verify", str(copy)]) == 1
        out = capsys.readouterr().out
        if name != SUMS:
            assert f"{name}: changed\n" in out
            assert "1 problem(s)" in out
        (copy / name).write_bytes(original)
    assert check_sums(copy) == []


def test_missing_and_unknown_files_are_named(copy):
    (copy / "tokens.json").unlink()
    (copy / "cases" / "note.txt").write_text("hello", encoding="utf-8")
    assert check_sums(copy) == [f"cases/note.txt: not in {SUMS}", "tokens.json: missing"]


@pytest.mark.parametrize("change", ["uppercase", "order", "newline"])
def test_checksums_in_another_form_are_refused(copy, change):
    path = copy / SUMS
    text = path.read_text(encoding="utf-8")
    changed = {"uppercase": text.replace("a", "A", 1), "newline": text[:-1]}
    changed["order"] = "".join(sorted(text.splitlines(keepends=True)))
    path.write_bytes(changed[change].encode())
    assert check_sums(copy)


def seal(directory):
    (directory / SUMS).write_bytes(checksums(directory).encode())


def test_with_new_checksums_a_changed_value_is_still_found(copy):
    path = copy / "cases" / "exif-6" / "expected.safetensors"
    tensors = read_safetensors(path)
    tensors["position_ids"][3, 0] += 1
    path.write_bytes(safetensors_bytes(tensors))
    seal(copy)
    problems = verify_fixtures(copy)
    assert problems == ["exif-6, expected.safetensors: not the tensors of the manifest"]
    with pytest.raises(InputError, match="position_ids of exif-6"):
        Fixtures.open(copy).expected("exif-6")


def test_with_new_checksums_a_changed_manifest_is_still_found(copy):
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["cases"]["budget-280"]["expected"]["patches"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest), encoding="utf-8")
    seal(copy)
    assert verify_fixtures(copy) == ["budget-280, patches: this release computes another tensor"]
    with pytest.raises(InputError, match="patches of budget-280"):
        Fixtures.open(copy).expected("budget-280")


# Errors


@pytest.mark.parametrize("words", [["fixtures", "verify", "."], ["fixtures", "verify", "nowhere"]])
def test_what_is_no_directory_of_fixtures_is_refused(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert run(words) == 1
    assert f"holds no {SUMS}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(schema_version=2), "schema version 2"),
        (lambda record: record.pop("cases"), "no manifest"),
        (lambda record: record["cases"].update({"../x": record["cases"]["exif-1"]}), "no name"),
        (lambda record: record["cases"]["exif-1"].update(kind="smell"), "no kind"),
        (lambda record: record["cases"]["exif-1"]["inputs"]["orientation"].update(dtype="I64"), "no dtype"),
    ],
)
def test_another_manifest_is_refused_in_words(copy, change, message):
    path = copy / "manifest.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        Fixtures.open(copy)


def test_a_build_replaces_nothing_but_fixtures(tmp_path):
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="other things than fixtures"):
        build_fixtures(tmp_path, subject=lambda case: {})  # noqa: ARG005
    assert [path.name for path in tmp_path.rglob("*")] == ["cases", "mine.txt"]


def test_a_build_that_fails_leaves_what_was_there(copy):
    def subject(case):
        raise InputError(f"{case.name} is refused")

    with pytest.raises(InputError, match="is refused"):
        build_fixtures(copy, subject=subject)
    assert check_sums(copy) == []
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
