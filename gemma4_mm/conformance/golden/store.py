"""A fixtures directory read back: case by case, whole, and checked against its manifest and this release."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.golden.cases import as_case, waveform
from gemma4_mm.conformance.golden.checksums import check_sums
from gemma4_mm.conformance.golden.layout import (
    CASES,
    EXPECTED,
    INPUTS,
    MANIFEST,
    TOKENS,
    small_tensors,
    stored_tensors,
)
from gemma4_mm.conformance.golden.manifest import Manifest, describe_input
from gemma4_mm.conformance.golden.stages import compute_stages
from gemma4_mm.conformance.records import STAGES, Case
from gemma4_mm.conformance.tensor_files import Tensors, read_npy, read_safetensors
from gemma4_mm.errors import InputError


def verify_fixtures(directory: Path) -> list[str]:
    """Check every byte, and compute every case again from its inputs; one sentence per problem.

    A changed, missing or unknown file is found by its checksum. Where all files are as they were written, every
    tensor must also be what the manifest says, and what this release computes.

    Raises:
        InputError: not a directory of fixtures.
    """
    problems = check_sums(directory)
    if problems:
        return problems
    fixtures = Fixtures.open(directory)
    return [problem for name in fixtures.manifest.cases for problem in fixtures.check(name)]


class Fixtures:
    """A fixtures directory, read case by case.

    Attributes:
        directory: where it is.
        manifest: its manifest.
    """

    def __init__(self, directory: Path, *, manifest: Manifest, tokens: Mapping[str, Any]) -> None:
        self.directory = directory
        self.manifest = manifest
        self._tokens = tokens

    @classmethod
    def open(cls, directory: Path) -> "Fixtures":
        """Read the manifest and the tokens.

        Raises:
            InputError: they are missing, damaged or of another schema version.
        """
        texts = []
        for name in (MANIFEST, TOKENS):
            try:
                texts.append((directory / name).read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(
                    f"cannot read {directory / name} ({error}); give a directory that gemma4-mm fixtures build wrote"
                ) from error
        manifest = Manifest.from_json(texts[0], name=str(directory / MANIFEST))
        try:
            tokens = {name: case["rows"] for name, case in json.loads(texts[1])["cases"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{directory / TOKENS} is damaged ({error}); build the fixtures again") from error
        return cls(directory, manifest=manifest, tokens=tokens)

    def inputs(self, name: str) -> dict[str, NDArray[Any]]:
        """Input tensors of a case, checked.

        Raises:
            InputError: a file is missing or damaged, or a tensor is not the manifest's.
        """
        tensors = read_safetensors(self._folder(name) / f"{INPUTS}.safetensors")
        entries = self.manifest.cases[name].inputs
        if tensors.keys() != entries.keys() or not all(entries[key].fits(value) for key, value in tensors.items()):
            raise InputError(f"inputs of {name} are not those of the manifest; run gemma4-mm fixtures verify")
        return tensors

    def expected(self, name: str) -> dict[str, NDArray[Any]]:
        """All expected tensors of a case, whole: read, or computed from the inputs where they are not stored.

        Raises:
            InputError: a file is missing or damaged, or a tensor is not the manifest's.
        """
        case = self.manifest.cases[name]
        stored = read_safetensors(self._folder(name) / f"{EXPECTED}.safetensors")
        computed = {} if all(entry.stored for entry in case.expected.values()) else self.compute(name)
        tensors = {}
        for key, entry in case.expected.items():
            value = (stored if entry.stored else computed).get(key)
            if value is None or not entry.fits(value):
                raise InputError(
                    f"{key} of {name} is not that of the manifest; run gemma4-mm fixtures verify, with the release "
                    "that built the fixtures"
                )
            tensors[key] = value
        return tensors

    def compute(self, name: str) -> dict[str, NDArray[Any]]:
        """Compute a case from its inputs, as a port does."""
        case = self.manifest.cases[name]
        prompts = [row["prompt_ids"] for row in self._tokens.get(name, ())]
        return compute_stages(case.kind, self.inputs(name), case.parameters, prompts=prompts)

    def stages_given(self, name: str) -> dict[str, NDArray[Any]]:
        """Stages that a port has no need to compute, but may write: source pixels, samples, the prompt's text."""
        kind, inputs = self.manifest.cases[name].kind, self.inputs(name)
        stages = {key: value for key, value in inputs.items() if key in STAGES[kind]}
        if kind == "audio":
            stages["pcm"] = waveform(inputs)
        texts = [row["prompt"] for row in self._tokens.get(name, ())]
        if texts and None not in texts:
            stages["prompt"] = np.frombuffer("\0".join(texts).encode(), np.uint8)
        return stages

    def case(self, name: str) -> Case:
        """The case in the form that the harness compares."""
        return as_case(name, self.manifest.cases[name], self.inputs(name))

    def check(self, name: str) -> list[str]:
        """Compare all files of a case with the manifest and with what this release computes."""
        case, folder = self.manifest.cases[name], self._folder(name)
        try:
            computed, inputs = self.compute(name), self.inputs(name)
            stored = read_safetensors(folder / f"{EXPECTED}.safetensors")
        except InputError as error:
            return [f"{name}: {error}"]
        problems = [
            f"{name}, {key}: this release computes another tensor"
            for key, entry in case.expected.items()
            if key not in computed or not entry.fits(computed[key])
        ]
        whole = {key for key, entry in case.expected.items() if entry.stored}
        wanted = stored_tensors({key: computed[key] for key in case.expected if key in computed}, whole=whole)
        files = {INPUTS: (inputs, inputs), EXPECTED: (stored, wanted)}
        for part, (tensors, reference) in files.items():
            if not _same(tensors, reference):
                problems.append(f"{name}, {part}.safetensors: not the tensors of the manifest")
            copies = {path.stem: read_npy(path) for path in sorted((folder / part).glob("*.npy"))}
            if not _same(copies, small_tensors(reference)):
                problems.append(f"{name}, {part}/: not the tensors of {part}.safetensors")
        return problems

    def _folder(self, name: str) -> Path:
        return self.directory / CASES / name


def _same(actual: Tensors, expected: Tensors) -> bool:
    return actual.keys() == expected.keys() and all(
        describe_input(expected[name]).fits(value) for name, value in actual.items()
    )
