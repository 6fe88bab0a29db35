"""Run mutants over the committed fixtures, each until its first difference; say which case fails it, and as what.

Functions of the port that a mutant does not reach give the same values as in the right port, so their results are kept
and shared between all mutants.
"""

import ast
import hashlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gemma4_mm.conformance.compare import Outcome, compare_case
from gemma4_mm.conformance.formulas import find_plan_fault
from gemma4_mm.conformance.golden import Fixtures
from tests.conformance.mutants import port
from tests.conformance.mutants.mutant import Mutant
from tests.conformance.mutants.of_others import CONVERSATIONS, MASKS, SOUNDS, VIDEOS
from tests.conformance.mutants.of_pictures import PATCHES, RESIZES, SIZES, SOURCES

MUTANTS = (*SIZES, *RESIZES, *PATCHES, *SOURCES, *VIDEOS, *SOUNDS, *MASKS, *CONVERSATIONS)
FIXTURES = Path(__file__).parents[3] / "fixtures"
TEXT = inspect.getsource(port)
_SHARED = ("resize", "across", "down", "patches", "mask")  # what takes long
_HELPERS = {  # what a mutant needs beside its line: the resize's weights as if no axis shrank
    "aliased_weights": "support = 2 * max(s, 1)\n    inverse = 1 / s if s >= 1 else 1",
}


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        mutant: which.
        killed_by: the case that failed first; "" if none did.
        stage: its first stage that differs, or how the port failed.
        named: the suspect that was named first; "" if none was, or the port failed.
    """

    mutant: Mutant
    killed_by: str = ""
    stage: str = ""
    named: str = ""


@dataclass
class Suite:
    """The fixtures, and what was computed of them already."""

    fixtures: Fixtures = field(default_factory=lambda: Fixtures.open(FIXTURES))
    kept: dict[Any, Any] = field(default_factory=dict)
    fits: dict[Any, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tokens = json.loads((FIXTURES / "tokens.json").read_text(encoding="utf-8"))
        self.special = tokens["special_tokens"]
        self.prompts = {name: [row["prompt_ids"] for row in case["rows"]] for name, case in tokens["cases"].items()}
        cases = self.fixtures.manifest.cases
        self.inputs = {name: self.fixtures.inputs(name) for name in cases}
        self.names = sorted(cases, key=self._size)

    def judge(self, mutant: Mutant, *, name_it: bool = True) -> Verdict:
        """Run a mutant until a case fails it."""
        with np.errstate(all="ignore"):
            return self._judge(mutant, name_it=name_it)

    def _judge(self, mutant: Mutant, *, name_it: bool) -> Verdict:
        module = self.load(mutant)
        kinds = _reached(mutant)
        names = [name for name in self.names if self.fixtures.manifest.cases[name].kind in kinds]
        names.sort(key=lambda name: name != mutant.case)
        for name in names:
            stage = self.first_difference(module, name)
            if stage:
                named = self.suspect(module, name) if name_it and not stage.startswith("fails") else ""
                return Verdict(mutant, name, stage, named)
        return Verdict(mutant)

    def load(self, mutant: Mutant | None) -> dict[str, Any]:
        """The port's names, with one text replaced."""
        text, changed = TEXT, set()
        if mutant is not None:
            text, changed = planted(mutant), _touched(mutant)
        names: dict[str, Any] = {}
        exec(compile(text, "port.py", "exec"), names)  # noqa: S102 (our own text)
        if "aliased_weights" in text:
            made: dict[str, Any] = {}
            exec(TEXT.replace(_HELPERS["aliased_weights"], "support, inverse = 2, 1"), made)  # noqa: S102
            names["aliased_weights"] = made["axis_weights"]
        for function in _SHARED:
            if function not in changed:
                names[function] = self._sharing(function, names[function])
        return names

    def stages(self, module: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
        """The stages of a case, in the port's order."""
        case = self.fixtures.manifest.cases[name]
        arguments = [self.inputs[name], case.parameters]
        if case.kind == "conversation":
            arguments += [self.prompts[name], self.special]
        return module[case.kind](*arguments)

    def first_difference(self, module: dict[str, Any], name: str) -> str:
        """The first stage that is not as expected; "" if the case passes."""
        expected = self.fixtures.manifest.cases[name].expected
        seen = set()
        try:
            for stage, value in self.stages(module, name):
                seen.add(stage)
                if not self._equal(name, stage, value):
                    return stage
        except (ValueError, IndexError, TypeError, KeyError, StopIteration, ZeroDivisionError, RuntimeError) as error:
            return f"fails: {type(error).__name__}"
        return "" if seen == expected.keys() else f"fails: no {', '.join(sorted(expected.keys() - seen))}"

    def suspect(self, module: dict[str, Any], name: str) -> str:
        """What `conform` names first."""
        try:
            stages = dict(self.stages(module, name))
        except (ValueError, IndexError, TypeError, KeyError, StopIteration, RuntimeError):
            return ""
        expected = self.fixtures.expected(name)
        outcome = Outcome(stages=expected | self.fixtures.stages_given(name))
        results = compare_case(self.fixtures.case(name), outcome, Outcome(stages=stages))
        failed = [result for result in results if result.status not in ("equal", "missing")]
        return next((result.suspects[0].name for result in failed if result.suspects), "")

    def _equal(self, name: str, stage: str, value: Any) -> bool:
        entry = self.fixtures.manifest.cases[name].expected[stage]
        if stage == "chunk_plan":
            limit = self.fixtures.manifest.cases[name].parameters["max_chunk"]
            return find_plan_fault(self.inputs[name]["token_types"], value, max_chunk=limit) is None
        if value.shape != entry.shape:
            return False
        return bool(entry.fits(value))

    def _size(self, name: str) -> int:
        case = self.fixtures.manifest.cases[name]
        return sum(int(np.prod(entry.shape)) for entry in case.expected.values())

    def _sharing(self, name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            key = (name, *(_digest(one) for one in arguments))
            if key not in self.kept:
                self.kept[key] = function(*arguments)
            return self.kept[key]

        return call


def planted(mutant: Mutant) -> str:
    """The port's text with the wrong line.

    Raises:
        ValueError: the right text is not there once.
    """
    if TEXT.count(mutant.right) != 1:
        raise ValueError(f"{mutant.name}: {mutant.right!r} is there {TEXT.count(mutant.right)} times")
    return TEXT.replace(mutant.right, mutant.wrong)


def _digest(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, hashlib.blake2b(np.ascontiguousarray(value)).digest()
    return value


def _touched(mutant: Mutant) -> set[str]:
    """Functions that contain the changed text, or call such a function, however far."""
    start = TEXT.index(mutant.right)
    line, last = TEXT[:start].count("\n") + 1, TEXT[: start + len(mutant.right.rstrip())].count("\n") + 1
    functions = [node for node in ast.parse(TEXT).body if isinstance(node, ast.FunctionDef)]
    touched = {node.name for node in functions if node.lineno <= last and line <= (node.end_lineno or line)}
    calls = {node.name: {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)} for node in functions}
    while more := {name for name, used in calls.items() if used & touched} - touched:
        touched |= more
    return touched


def _reached(mutant: Mutant) -> set[str]:
    """Kinds of cases whose function is touched."""
    return _touched(mutant) & {"image", "video", "audio", "masks", "conversation"}
