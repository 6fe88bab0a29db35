"""What a report says in words and counts, whatever it is written as."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gemma4_mm.conformance.records import CaseKind, ParityReport, StageResult


@dataclass(frozen=True, kw_only=True)
class StageCount:
    """One stage over all cases of a kind.

    Attributes:
        kind: the cases' kind.
        stage: its name.
        oracle: what it was compared with.
        n_cases: cases that have it.
        n_different_cases: cases in which it is not equal.
        n_values: values compared.
        n_different: values that differ.
        histogram: distances of the values that differ to counts, ascending.
    """

    kind: CaseKind
    stage: str
    oracle: str
    n_cases: int
    n_different_cases: int
    n_values: int
    n_different: int
    histogram: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class CaseSummary:
    """All stages of one case, in the order of the computation.

    Attributes:
        name: the case's name.
        kind: the case's kind.
        results: its stages.
    """

    name: str
    kind: CaseKind
    results: tuple[StageResult, ...]

    @property
    def differences(self) -> tuple[StageResult, ...]:
        """The stages that are not equal; the first is the one to look at, others often follow from it."""
        return tuple(result for result in self.results if result.status != "equal")


def verdict(report: ParityReport) -> str:
    """The result in one line, e.g. "412 cases, 2,310 stages: every value equal"."""
    if not report.results:
        return "Nothing was compared"
    scope = f"{_count(report.n_cases, 'case')}, {_count(len(report.results), 'stage')}"
    if report.passed:
        return f"{scope}: every value equal"
    different = len({result.case for result in report.differences})
    return f"{different:,} of {scope}: {'differs' if different == 1 else 'differ'}"


def count_stages(report: ParityReport) -> tuple[StageCount, ...]:
    """Count each stage over its cases, by kind and stage in the order of the report."""
    groups: dict[tuple[CaseKind, str], list[StageResult]] = {}
    for result in report.results:
        groups.setdefault((result.kind, result.stage), []).append(result)
    return tuple(_count_stage(results) for results in groups.values())


def group_cases(report: ParityReport) -> tuple[CaseSummary, ...]:
    """The report's results by case, in its order."""
    groups: dict[str, list[StageResult]] = {}
    for result in report.results:
        groups.setdefault(result.case, []).append(result)
    return tuple(
        CaseSummary(name=name, kind=results[0].kind, results=tuple(results)) for name, results in groups.items()
    )


def _count_stage(results: Sequence[StageResult]) -> StageCount:
    first = results[0]
    return StageCount(
        kind=first.kind,
        stage=first.stage,
        oracle=first.oracle,
        n_cases=len(results),
        n_different_cases=sum(result.status != "equal" for result in results),
        n_values=sum(result.n_values for result in results),
        n_different=sum(result.n_different for result in results),
        histogram=_merge(result.difference.histogram for result in results if result.difference is not None),
    )


def _merge(histograms: Iterable[Mapping[str, int]]) -> dict[str, int]:
    merged: dict[str, int] = {}
    for histogram in histograms:
        for bucket, count in histogram.items():
            merged[bucket] = merged.get(bucket, 0) + count
    return dict(sorted(merged.items(), key=lambda entry: _lower_edge(entry[0])))


def _lower_edge(bucket: str) -> float:
    """Where a bucket such as "3-4" begins; those that are no distances come last."""
    edge = bucket.partition("-")[0]
    return int(edge) if edge.isdecimal() else float("inf")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
