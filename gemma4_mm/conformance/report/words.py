"""What a page says beside the table of stages: a verdict, the results case by case, and how far values are off."""

from dataclasses import dataclass

from gemma4_mm.conformance.records import CaseKind, ParityReport, StageResult


@dataclass(frozen=True, kw_only=True)
class CaseResults:
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


@dataclass(frozen=True, kw_only=True)
class Distances:
    """How far the values of one stage are off, over all cases of a kind.

    Attributes:
        kind: the cases' kind.
        stage: its name.
        counts: bins of distances to counts, ascending; "nan" last.
    """

    kind: CaseKind
    stage: str
    counts: dict[str, int]


def verdict(report: ParityReport) -> str:
    """The result in one line, e.g. "412 cases, 2,310 stages: every value equal"."""
    if not report.results:
        return "Nothing was compared"
    n_missing = sum(report.partial and result.status == "missing" for result in report.results)
    n_compared = len(report.results) - n_missing
    if report.passed:
        left_out = f"; {_count(n_missing, 'stage')} left out by the subject" if n_missing else ""
        return f"{_count(report.n_cases, 'case')}, {_count(n_compared, 'stage')}: every value equal{left_out}"
    if not report.failures:
        return "Nothing was compared: the subject left every stage out"
    n_cases, n_stages = len({result.case for result in report.failures}), len(report.failures)
    verb = "differs" if n_cases == 1 else "differ"
    return f"{n_cases:,} of {_count(report.n_cases, 'case')} {verb}, in {n_stages:,} of {_count(n_compared, 'stage')}"


def group_cases(report: ParityReport) -> tuple[CaseResults, ...]:
    """The report's results by case, in its order."""
    groups: dict[str, list[StageResult]] = {}
    for result in report.results:
        groups.setdefault(result.case, []).append(result)
    failures = set(map(id, report.failures))
    return tuple(
        CaseResults(
            name=name,
            kind=results[0].kind,
            results=tuple(results),
            failures=tuple(result for result in results if id(result) in failures),
        )
        for name, results in groups.items()
    )


def add_distances(report: ParityReport) -> tuple[Distances, ...]:
    """Add up the distances of the values that differ, for each stage that has any."""
    merged: dict[tuple[CaseKind, str], dict[str, int]] = {}
    for result in report.results:
        for name, count in (result.difference.histogram if result.difference else {}).items():
            counts = merged.setdefault((result.kind, result.stage), {})
            counts[name] = counts.get(name, 0) + count
    return tuple(
        Distances(kind=kind, stage=stage, counts=dict(sorted(counts.items(), key=lambda entry: _lower_edge(entry[0]))))
        for (kind, stage), counts in merged.items()
    )


def _lower_edge(name: str) -> float:
    """Where a bin such as "3-4" begins; those that are no distances come last."""
    edge = name.partition("-")[0]
    return int(edge) if edge.isdecimal() else float("inf")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
