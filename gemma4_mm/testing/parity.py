"""Assertions about a port: its stages are the reference's, or the first difference in words."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike

from gemma4_mm.conformance.cases import select_cases
from gemma4_mm.conformance.records import Case, ParityReport, Stages, Subject
from gemma4_mm.conformance.reference import Reference
from gemma4_mm.conformance.report import write_report
from gemma4_mm.conformance.report.words import group_cases, verdict
from gemma4_mm.conformance.run import run_parity
from gemma4_mm.errors import InputError

_SHOWN_CASES: Final = 8


class ParityChecker:
    """Compares a port with the live oracle; what the fixture `gemma4_parity` gives.

    The oracle's process starts at the first comparison. A context manager; one thread at a time.

    Args:
        python: the interpreter that has the oracle; None for this one.
        tokenizer: directory of `tokenizer.json` and `chat_template.jinja`; None for the published files in the cache.
    """

    def __init__(self, *, python: str | None = None, tokenizer: Path | None = None) -> None:
        self._python = python
        self._tokenizer = tokenizer
        self._reference: Reference | None = None

    @property
    def reference(self) -> Reference:
        """The oracle itself: `reference.stages(case)` gives its arrays, `reference.versions` what it runs on."""
        if self._reference is None:
            self._reference = Reference(python=self._python, tokenizer=self._tokenizer)
        return self._reference

    def check(
        self,
        subject: Subject,
        *,
        cases: Iterable[str | Case] = (),
        partial: bool = True,
        report: Path | None = None,
    ) -> ParityReport:
        """Assert that a port computes what the oracle computes, in every bit.

        Args:
            subject: maps a `Case` to arrays by stage name; a ValueError says that it refuses the case. See
                `gemma4_mm.conformance.records.STAGES` for the stages, `gemma4_mm.conformance.cases` for the options.
            cases: names of the corpus, kinds (`image`, `video`, `audio`, `conversation`, `masks`) or patterns such as
                `exif-*`, and cases of your own; empty for the whole corpus.
            partial: whether the port may leave stages out.
            report: where to write the whole report, before anything is asserted: `.html`, `.md` or `.json`.

        Returns:
            The report of what was compared.

        Raises:
            AssertionError: a stage differs; the message is the first difference in words.
            InputError: a pattern matches no case.
        """
        __tracebackhide__ = True
        result = self._compare(subject, _choose(cases), name=_name_of(subject), partial=partial)
        if report is not None:
            write_report(result, report)
        if not result.passed:
            raise AssertionError(describe_failure(result))
        return result

    def check_stages(self, case: str | Case, stages: Mapping[str, ArrayLike]) -> ParityReport:
        """Assert that arrays are the oracle's stages of one case.

        Args:
            case: a name of the corpus, or a case of your own.
            stages: arrays by stage name, see `gemma4_mm.conformance.records.STAGES`; one is enough.

        Raises:
            AssertionError: a stage differs; the message is the first difference in words.
            InputError: the corpus has no such case, or several match.
        """
        __tracebackhide__ = True
        chosen = list(_choose([case]))
        if len(chosen) != 1:
            raise InputError(f"{case!r} matches {len(chosen)} cases; name one, or give a subject to `check`")
        arrays: Stages = {name: np.asarray(values) for name, values in stages.items()}
        result = self._compare(lambda _case: arrays, chosen, name="the given arrays", partial=True)
        if not result.passed:
            raise AssertionError(describe_failure(result))
        return result

    def _compare(self, subject: Subject, cases: Iterable[Case], *, name: str, partial: bool) -> ParityReport:
        profile = f"transformers-{self.reference.versions['transformers']}"  # a name only: any release will do
        return run_parity(cases, subject, self.reference, subject_name=name, profile=profile, partial=partial)

    def close(self) -> None:
        """End the oracle's process."""
        if self._reference is not None:
            self._reference.close()
            self._reference = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def describe_failure(report: ParityReport) -> str:
    """The first difference, then which cases differ and in which stages."""
    if not report.failures:
        return verdict(report)
    different = [case for case in group_cases(report) if case.failures]
    lines = [different[0].failures[0].message, f"{report.subject} against {report.reference}: {verdict(report)}"]
    lines += [
        f"  {case.name}: {', '.join(result.stage for result in case.failures)}" for case in different[:_SHOWN_CASES]
    ]
    if len(different) > _SHOWN_CASES:
        lines.append(f"  and {len(different) - _SHOWN_CASES} more")
    return "\n".join(lines)


def _choose(cases: Iterable[str | Case]) -> Iterable[Case]:
    asked = list(cases)
    names = [case for case in asked if isinstance(case, str)]
    own = [case for case in asked if isinstance(case, Case)]
    return [*(select_cases(names) if names or not own else ()), *own]


def _name_of(subject: Any) -> str:
    """`module:name` where the port is a function, the class's name where it is an object."""
    owner = subject if hasattr(subject, "__qualname__") else type(subject)
    return f"{owner.__module__}:{owner.__qualname__}"
