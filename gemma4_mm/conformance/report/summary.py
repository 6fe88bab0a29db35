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
        n_cases: cases in which it was compared.
        n_failures: cases in which it is not equal.
        n_left_out: cases for which a partial subject did not give it.
        n_values: values compared.
        n_different: values that differ.
        histogram: distances of the values that differ to counts, ascending.
    """

    kind: CaseKind
    stage: str
    oracle: str
    n_cases: int
    n_failures: int
    n_left_out: int
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
        failures: those that are not equal; the first is the one to look at, others often follow from it.
    """

    name: str
    kind: CaseKind
    results: tuple[StageResult, ...]
    failures: tuple[StageResult, ...]


def verdict(report: ParityReport) -> str:
    """The result in one line, e.g. "412 cases, 2,310 stages: every value equal"."""
    if not report.results:
        return "Nothing was compared"
    n_left_out = sum(_is_left_out(report, result) for result in report.results)
    n_compared = len(report.results) - n_left_out
    if report.passed:
        left_out = f"; {_count(n_left_out, 'stage')} left out by the subject" if n_left_out else ""
        return f"{_count(report.n_cases, 'case')}, {_count(n_compared, 'stage')}: every value equal{left_out}"
    if not report.failures:
        return "Nothing was compared: the subject left every stage out"
    n_cases, n_stages = len({result.case for result in report.failures}), len(report.failures)
    verb = "differs" if n_cases == 1 else "differ"
    return f"{n_cases:,} of {_count(report.n_cases, 'case')} {verb}, in {n_stages:,} of {_count(n_compared, 'stage')}"


def count_stages(report: ParityReport) -> tuple[StageCount, ...]:
    """Count each stage over its cases, by kind and stage in the order of the report."""
    groups: dict[tuple[CaseKind, str], list[StageResult]] = {}
    for result in report.results:
        groups.setdefault((result.kind, result.stage), []).append(result)
    return tuple(_count_stage(report, results) for results in groups.values())


def group_cases(report: ParityReport) -> tuple[CaseSummary, ...]:
    """The report's results by case, in its order."""
    groups: dict[str, list[StageResult]] = {}
    for result in report.results:
        groups.setdefault(result.case, []).append(result)
    failures = set(map(id, report.failures))
    return tuple(
        CaseSummary(
            name=name,
            kind=results[0].kind,
            results=tuple(results),
            failures=tuple(result for result in results if id(result) in failures),
        )
        for name, results in groups.items()
    )


def _is_left_out(report: ParityReport, result: StageResult) -> bool:
    return report.partial and result.status == "missing"


def _count_stage(report: ParityReport, results: Sequence[StageResult]) -> StageCount:
    first = results[0]
    compared = [result for result in results if not _is_left_out(report, result)]
    return StageCount(
        kind=first.kind,
        stage=first.stage,
        oracle=first.oracle,
        n_cases=len(compared),
        n_failures=sum(result.status != "equal" for result in compared),
        n_left_out=len(results) - len(compared),
        n_values=sum(result.n_values for result in compared),
        n_different=sum(result.n_different for result in compared),
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
