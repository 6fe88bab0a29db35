"""Fixtures written: each case of the selection computed, checked to follow from its inputs, and stored."""

import itertools
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from gemma4_mm.assets.published import PUBLISHED, TOKENIZER
from gemma4_mm.conformance.cases import random_cases
from gemma4_mm.conformance.golden.checksums import SUMS, checksums
from gemma4_mm.conformance.golden.layout import (
    CASES,
    CLIENTS,
    EXPECTED,
    INPUTS,
    MANIFEST,
    MOST_STORED_BYTES,
    MOST_STORED_OF_MANY_BYTES,
    SCHEMA,
    TOKENS,
    small_tensors,
    stored_tensors,
)
from gemma4_mm.conformance.golden.manifest import (
    SCHEMA_VERSION,
    CaseEntry,
    Manifest,
    describe_expected,
    describe_input,
)
from gemma4_mm.conformance.golden.selection import FixtureCase, describe_case, fixture_cases, is_portable
from gemma4_mm.conformance.golden.stages import compute_stages
from gemma4_mm.conformance.records import Case, Stages, Subject
from gemma4_mm.conformance.tensor_files import npy_bytes, safetensors_bytes
from gemma4_mm.errors import InputError, InvariantError
from gemma4_mm.spec import TokenIds

# Whose values the fixtures hold: a test compares them with this oracle, whatever machine builds them.
PRODUCERS: Final = {"transformers": "5.24.0", "torch": "2.14.1", "torchvision": "0.29.1"}
_MOST_FILE_BYTES: Final = 1_000_000
_MOST_BYTES: Final = 25_000_000
_WRITTEN: Final = frozenset({MANIFEST, TOKENS, SCHEMA, SUMS, CASES, CLIENTS})


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Size of a fixtures directory.

    Attributes:
        n_cases: cases.
        n_files: files, clients included.
        n_bytes: of all files.
        largest_bytes: of the largest file.
    """

    n_cases: int
    n_files: int
    n_bytes: int
    largest_bytes: int


def build_fixtures(out: Path, *, subject: Subject, n_random: int = 0, seed: int = 0) -> Summary:
    """Write all fixtures, whole or not at all. The same release writes the same bytes, on every machine.

    A folder `clients` in `out` is kept as it is.

    Args:
        out: a directory that is missing, empty, or holds fixtures, which are replaced.
        subject: what computes the stages, e.g. `OwnSubject`.
        n_random: so many random cases beside the named ones, without those that a port cannot do or that are refused.
        seed: of the random cases.

    Raises:
        InputError: `out` holds something else, or cannot be written.
    """
    if not _is_replaceable(out):
        raise InputError(
            f"{out} holds other things than fixtures; give a new directory, or one that this command wrote"
        )
    partial, former = (out.absolute().with_name(f".{out.absolute().name}.{word}") for word in ("partial", "former"))
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if (out / CLIENTS).is_dir():
            shutil.copytree(out / CLIENTS, partial / CLIENTS, ignore=shutil.ignore_patterns("__pycache__", ".DS_Store"))
        _write(partial, subject=subject, random=random_cases(n_random, seed=seed))
        if not n_random:  # the committed ones
            _check_size(partial)
        if out.exists():
            out.rename(former)
        partial.rename(out)
    except OSError as error:
        if former.exists() and not out.exists():
            former.rename(out)
        raise InputError(f"cannot write {out}: {error.strerror or error}; choose a writable path") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(former, ignore_errors=True)
    return measure(out)


def measure(directory: Path) -> Summary:
    """Count cases, files and bytes."""
    sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
    n_cases = sum(1 for _ in (directory / CASES).iterdir())
    return Summary(n_cases=n_cases, n_files=len(sizes), n_bytes=sum(sizes), largest_bytes=max(sizes))


def _write(directory: Path, *, subject: Subject, random: Iterator[Case]) -> None:
    entries: dict[str, CaseEntry] = {}
    prompts: dict[str, Any] = {}
    named = ((case, subject(case)) for case in fixture_cases())
    for case, stages in itertools.chain(named, _accepted(random, subject)):
        fixture = describe_case(case, stages)
        _check_sufficient(fixture)
        entries[case.name] = _write_case(directory / CASES / case.name, fixture)
        if fixture.prompts:
            prompts[case.name] = {"rows": fixture.prompts}
    manifest = Manifest(producers=PRODUCERS, cases=entries)
    (directory / MANIFEST).write_text(manifest.to_json(), encoding="utf-8", newline="\n")
    (directory / TOKENS).write_text(_tokens_json(prompts), encoding="utf-8", newline="\n")
    (directory / SCHEMA).write_bytes(resources.files(__package__).joinpath(SCHEMA).read_bytes())
    (directory / SUMS).write_bytes(checksums(directory).encode())


def _check_size(directory: Path) -> None:
    size = measure(directory)
    if size.largest_bytes > _MOST_FILE_BYTES or size.n_bytes > _MOST_BYTES:
        raise InvariantError(
            f"fixtures of {size.n_bytes} bytes, the largest file {size.largest_bytes}; the limits are {_MOST_BYTES} "
            f"and {_MOST_FILE_BYTES}; select smaller cases"
        )


def _accepted(cases: Iterator[Case], subject: Subject) -> Iterator[tuple[Case, Stages]]:
    """The cases that a port can do, and that are not refused, with their stages."""
    for case in cases:
        if not is_portable(case):
            continue
        try:
            stages = subject(case)
        except InputError:
            continue
        yield case, stages


def _check_sufficient(fixture: FixtureCase) -> None:
    """What a port is given must suffice: every expected tensor follows from it."""
    name = fixture.case.name
    computed = compute_stages(fixture.case.kind, fixture.inputs, fixture.parameters, prompts=fixture.prompt_ids)
    if computed.keys() != fixture.expected.keys():
        raise InvariantError(
            f"{name}: {sorted(computed)} follow from its inputs, {sorted(fixture.expected)} are expected"
        )
    for key, value in fixture.expected.items():
        if not describe_input(value).fits(computed[key]):
            raise InvariantError(f"{name}: {key} does not follow from its inputs; please report this bug")


def _write_case(folder: Path, fixture: FixtureCase) -> CaseEntry:
    inputs, whole = dict(fixture.inputs), _stored_whole(fixture)
    stored = stored_tensors(fixture.expected, whole=whole)
    for part, tensors in ((INPUTS, inputs), (EXPECTED, stored)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{part}.safetensors").write_bytes(safetensors_bytes(tensors))
        small = small_tensors(tensors)
        if small:
            (folder / part).mkdir()
        for name, value in small.items():
            (folder / part / f"{name}.npy").write_bytes(npy_bytes(value))
    return CaseEntry(
        kind=fixture.case.kind,
        about=fixture.about,
        parameters=fixture.parameters,
        inputs={name: describe_input(value) for name, value in inputs.items()},
        expected={name: describe_expected(value, stored=name in whole) for name, value in fixture.expected.items()},
    )


def _stored_whole(fixture: FixtureCase) -> set[str]:
    of_many = fixture.case.kind == "masks" or "source_rgba" in fixture.inputs
    most = MOST_STORED_OF_MANY_BYTES if of_many else MOST_STORED_BYTES
    return {name for name, value in fixture.expected.items() if value.nbytes <= most}


def _tokens_json(prompts: Mapping[str, Any]) -> str:
    tokenizer = next(file for file in PUBLISHED if file.name == TOKENIZER)
    record = {
        "schema_version": SCHEMA_VERSION,
        "tokenizer_sha256": tokenizer.sha256,
        "special_tokens": vars(TokenIds()),
        "cases": prompts,
    }
    return json.dumps(record, ensure_ascii=False, indent=1) + "\n"


def _is_replaceable(directory: Path) -> bool:
    """Missing, empty but for clients, or what this command wrote."""
    if not directory.exists():
        return True
    if not directory.is_dir():
        return False
    names = {path.name for path in directory.iterdir()}
    return names <= {CLIENTS} or ({MANIFEST, SUMS} <= names <= _WRITTEN)
