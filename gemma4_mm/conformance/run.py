"""A whole run: cases through the subject and the reference, compared as they come."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from gemma4_mm.conformance.compare import Outcome, compare_case
from gemma4_mm.conformance.formulas import add_formula_stages
from gemma4_mm.conformance.records import Case, ParityReport, StageResult, Subject
from gemma4_mm.conformance.reference import Reference, Refused
from gemma4_mm.errors import InvariantError

MOST_CROPS: Final = 40  # pictures kept in a report; each takes up to 55 KB there


def run_parity(
    cases: Iterable[Case],
    subject: Subject,
    reference: Reference,
    *,
    subject_name: str,
    profile: str,
    partial: bool = False,
    seed: int | None = None,
    progress: Callable[[str], None] = lambda _message: None,
) -> ParityReport:
    """Compare a subject with the reference, case by case; both compute at the same time.

    Args:
        cases: what to run; random ones may be made as they are asked for.
        subject: the implementation under test.
        reference: a started one.
        subject_name: what the report calls the subject.
        profile: name of the release whose behaviour the subject was asked for.
        partial: whether the subject may leave stages out.
        seed: of the random cases among them.
        progress: told the name of each case.

    Raises:
        ExecutionError: the reference's process failed.
    """
    results: list[StageResult] = []
    named: Counter[str] = Counter()
    n_random = 0
    for case in cases:
        progress(case.name)
        n_random += case.name.startswith("random-")
        reference.start(case)
        actual = run_subject(subject, case)
        expected = finish_reference(reference, case)
        likely = [name for name, _ in named.most_common()]
        compared = compare_case(case, expected, actual, partial=partial, likely=likely)
        named.update(suspect.name for result in compared for suspect in result.suspects)
        results += compared
    return ParityReport(
        subject=subject_name,
        reference=reference.name,
        versions=reference.versions,
        profile=profile,
        seed=seed,
        n_random=n_random,
        partial=partial,
        results=keep_few_crops(results),
    )


def run_subject(subject: Subject, case: Case) -> Outcome:
    """Run one case. A ValueError (our own errors are such) refuses it; any other exception is a failure."""
    try:
        return Outcome(stages=subject(case))
    except InvariantError as error:
        return Outcome(failed=f"{type(error).__name__}: {error}")
    except ValueError as error:
        return Outcome(refused=f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 (a subject is other people's code)
        return Outcome(failed=f"{type(error).__name__}: {error}")


def finish_reference(reference: Reference, case: Case) -> Outcome:
    """The reference's outcome of the case that was started, with the stages that only formulas have."""
    try:
        stages, formulas = add_formula_stages(case, reference.finish())
    except Refused as error:
        return Outcome(refused=str(error))
    return Outcome(stages=stages, formulas=formulas)


def keep_few_crops(results: list[StageResult]) -> tuple[StageResult, ...]:
    """Drop the pictures of all but the first differences, so that a report stays small."""
    kept: list[StageResult] = []
    n_crops = 0
    for result in results:
        difference = result.difference
        if difference is not None and difference.crop is not None:
            n_crops += 1
            if n_crops > MOST_CROPS:
                result = replace(result, difference=replace(difference, crop=None))
        kept.append(result)
    return tuple(kept)
