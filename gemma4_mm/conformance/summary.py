"""A report's results summed up by stage, and in words for a terminal."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from gemma4_mm.conformance.records import OUTCOME, STAGES, CaseKind, ParityReport, StageResult

MOST_MESSAGES: Final = 12
_VERSIONS: Final = ("torch", "torchvision", "pillow", "cpu_capability")


@dataclass(frozen=True, kw_only=True)
class StageSummary:
    """One stage of one kind over all cases.

    Attributes:
        kind: of the cases.
        stage: its name; `outcome` counts the cases that a side refused.
        oracle: what it was compared with; `formula` if any of it was.
        n_cases: cases in which it was compared.
        n_missing: cases in which the subject did not give it.
        n_failed: cases in which it is not equal, without the missing ones.
        n_values: values compared.
        n_different: values that differ; all of a stage whose shape or dtype is another.
    """

    kind: CaseKind
    stage: str
    oracle: Literal["transformers", "formula"]
    n_cases: int
    n_missing: int
    n_failed: int
    n_values: int
    n_different: int


def summarize(report: ParityReport) -> tuple[StageSummary, ...]:
    """Sum up the results of a report: kinds and stages in their order, `outcome` last."""
    groups: dict[tuple[CaseKind, str], list[StageResult]] = {}
    for result in report.results:
        groups.setdefault((result.kind, result.stage), []).append(result)

    def order(key: tuple[CaseKind, str]) -> tuple[int, int, str]:
        kind, stage = key
        known = (*STAGES[kind], OUTCOME)
        return list(STAGES).index(kind), known.index(stage) if stage in known else len(known), stage

    return tuple(_sum_up(*key, groups[key]) for key in sorted(groups, key=order))


def format_report(report: ParityReport) -> str:
    """The report as text: a table by stage, what it says in words, and the first differences."""
    return "\n".join(_lines(report))


def count_suspects(report: ParityReport) -> dict[str, int]:
    """How many stages look like each known mistake, the most frequent first; "" counts those like none."""
    compared = [result for result in report.failures if result.status in ("different", "shape")]
    counts = Counter(result.suspects[0].words if result.suspects else "" for result in compared)
    unexplained = counts.pop("", 0)
    return dict(counts.most_common()) | ({"": unexplained} if unexplained else {})


def _sum_up(kind: CaseKind, stage: str, results: list[StageResult]) -> StageSummary:
    compared = [result for result in results if result.status != "missing"]
    return StageSummary(
        kind=kind,
        stage=stage,
        oracle="formula" if any(result.oracle == "formula" for result in results) else "transformers",
        n_cases=len(compared),
        n_missing=len(results) - len(compared),
        n_failed=sum(result.status != "equal" for result in compared),
        n_values=sum(result.n_values for result in compared),
        n_different=sum(result.n_different for result in compared),
    )


def _lines(report: ParityReport) -> Iterator[str]:
    versions = ", ".join(f"{name} {report.versions[name]}" for name in _VERSIONS if name in report.versions)
    yield f"{report.subject} against {report.reference} ({versions})"
    yield ""
    yield f"{'stage':34}{'cases':>7}{'values':>18}{'different':>16}{'cases that differ':>20}"
    kind = None
    for row in summarize(report):
        if row.kind != kind:
            kind = row.kind
            yield kind
        missing = f"  (not given in {row.n_missing})" if row.n_missing else ""
        mark = " *" if row.oracle == "formula" else ""
        name = f"  {'refused by both' if row.stage == OUTCOME and not row.n_failed else row.stage}{mark}"
        yield f"{name:34}{row.n_cases:>7,}{row.n_values:>18,}{row.n_different:>16,}{row.n_failed:>20,}{missing}"
    yield ""
    if any(result.oracle == "formula" for result in report.results):
        yield "* compared with the rule's formula (of chunk_plan: its properties); the reference has no such stage"
    yield from _verdict(report)


def _without_values(report: ParityReport) -> Iterator[str]:
    """Failures in which no values could be compared, each with the next step."""
    absent = [result for result in report.failures if result.status == "missing"]
    whole = {result.case for result in report.results} - {
        result.case for result in report.results if result.status != "missing"
    }
    if whole:
        first, *_ = (result.case for result in report.results if result.case in whole)
        yield (
            f"  {len(whole):,} cases were not written, the first of them {first}: if the port stopped there, run it on "
            "this case alone and read its own error"
        )
    if parts := [result for result in absent if result.case not in whole]:
        names = sorted({result.stage for result in parts})
        yield f"  {len(parts):,} stages are missing from cases that were written: {', '.join(names)}"
    words = {
        "extra": "stages have a name that the reference does not know: rename or remove them",
        "dtype": "stages have another dtype: write float32 as F32, and whole numbers as integers",
        "error": "cases could not be read or failed: see each message below",
    }
    for status, said in words.items():
        if count := sum(result.status == status for result in report.failures):
            yield f"  {count:,} {said}"


def _verdict(report: ParityReport) -> Iterator[str]:
    random = f", {report.n_random} of them random (seed {report.seed})" if report.n_random else ""
    n_missing = sum(result.status == "missing" for result in report.results)
    missing = f"; {n_missing:,} stages were not given, and not compared" if n_missing and report.partial else ""
    n_stages = sum(result.status != "missing" for result in report.results)
    amount = f"{report.n_cases:,} cases{random}, {n_stages:,} stages, {report.n_values:,} values"
    if report.passed:
        yield f"all zero: no value differs in a single bit ({amount}{missing})"
        return
    if not report.failures:
        yield f"nothing was compared: the subject gave no stage of {report.n_cases:,} cases"
        return
    failed = {result.case for result in report.failures}
    yield f"{len(failed):,} cases differ, in {len(report.failures):,} stages (of {amount}{missing})"
    for words, count in count_suspects(report).items():
        yield f"  {count:,} × {words or 'no known mistake; --cases NAME searches all of them for one case'}"
    yield from _without_values(report)
    yield "first differences:"
    for result in report.failures[:MOST_MESSAGES]:
        yield f"  {result.message}"
    if (more := len(report.failures) - MOST_MESSAGES) > 0:
        yield f"  and {more:,} more; --report FILE.json has them all"
