"""What a port in another language wrote, compared with the fixtures it was given."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from gemma4_mm.conformance.compare import Outcome, compare_case
from gemma4_mm.conformance.golden import Fixtures
from gemma4_mm.conformance.golden.checksums import check_sums
from gemma4_mm.conformance.golden.layout import CLIENTS
from gemma4_mm.conformance.records import STAGES, ParityReport, StageResult
from gemma4_mm.conformance.run import keep_few_crops
from gemma4_mm.conformance.tensor_files import read_case
from gemma4_mm.errors import InputError

MOST_SEARCHES: Final = 3  # of all suspects, for each stage of a kind; then those found before are tried
_FORMULAS: Final = frozenset({"mask_sliding_deepmind", "mask_global_deepmind", "chunk_plan"})


def conform(
    fixtures: Fixtures, directory: Path, *, patterns: Sequence[str] = (), partial: bool = False
) -> ParityReport:
    """Compare a port's output with the fixtures, in every bit.

    Args:
        fixtures: what the port was given.
        directory: per case `NAME.safetensors`, or a folder `NAME` of one `.npy` per stage.
        patterns: shell-style patterns of case names, or kinds; none for all cases.
        partial: whether the port may leave out cases and stages.

    Raises:
        InputError: no such directory, one that holds other cases, a pattern without a case, or damaged fixtures.
    """
    _check_fixtures(fixtures)
    _check_names(fixtures, directory)
    results: list[StageResult] = []
    named: Counter[str] = Counter()
    searches: Counter[tuple[str, str]] = Counter()
    for name in _select(fixtures, patterns):
        kind = fixtures.manifest.cases[name].kind

        def search(stage: str, kind: str = kind) -> bool:
            searches[kind, stage] += 1
            return searches[kind, stage] <= MOST_SEARCHES

        likely = [suspect for suspect, _ in named.most_common()]
        found = _compare(fixtures, directory, name, likely=likely, search=search)
        named.update(suspect.name for result in found for suspect in result.suspects)
        results += found
    transformers = fixtures.manifest.producers["transformers"]
    return ParityReport(
        subject=str(directory),
        reference=f"fixtures of transformers {transformers}",
        versions=fixtures.manifest.producers,
        profile=f"transformers-{transformers}",
        partial=partial,
        results=keep_few_crops(results),
    )


def _compare(
    fixtures: Fixtures, directory: Path, name: str, *, likely: Sequence[str], search: Callable[[str], bool]
) -> Sequence[StageResult]:
    case, expected = fixtures.case(name), fixtures.expected(name)
    try:
        written = read_case(directory, name)
    except InputError as error:
        return compare_case(case, Outcome(stages=expected), Outcome(failed=str(error)))
    # What a port was given is compared only where it wrote it, but tells what a difference looks like.
    given = fixtures.stages_given(name)
    stages = expected | given
    outcome = Outcome(stages=stages, formulas=_FORMULAS & stages.keys())
    unwritten = given.keys() - (written or {}).keys()
    compared = compare_case(case, outcome, Outcome(stages=written or {}), likely=likely, search=search)
    results = [result for result in compared if result.stage not in unwritten]
    if written is None:
        words = f"there is neither {name}.safetensors nor a folder {name}; run the port on this case"
        return [replace(result, message=f"case {name}, stage {result.stage}: {words}") for result in results]
    return results


def _check_fixtures(fixtures: Fixtures) -> None:
    """Clients may be at work beside the cases; everything else must be as it was built."""
    problems = [problem for problem in check_sums(fixtures.directory) if not problem.startswith(f"{CLIENTS}/")]
    if problems:
        raise InputError(
            f"{fixtures.directory} is damaged ({problems[0]}{', …' if len(problems) > 1 else ''}); run gemma4-mm "
            "fixtures verify, and take the fixtures from their source again"
        )


def _check_names(fixtures: Fixtures, directory: Path) -> None:
    if not directory.is_dir():
        raise InputError(f"{directory} is no directory; give the one that the port wrote")
    found = sorted(
        path.name
        for path in directory.iterdir()
        if path.is_dir() or path.suffix == ".safetensors"
        if path.name.removesuffix(".safetensors") not in fixtures.manifest.cases
    )
    if found:
        raise InputError(
            f"{directory} holds {', '.join(found[:5])}{' …' if len(found) > 5 else ''}, and no case is named so; "
            "name the files after the cases in manifest.json"
        )


def _select(fixtures: Fixtures, patterns: Sequence[str]) -> list[str]:
    cases = fixtures.manifest.cases
    for pattern in patterns:
        if not any(_matches(name, cases[name].kind, pattern) for name in cases):
            raise InputError(
                f"no case is named like {pattern!r}; kinds are {', '.join(STAGES)}, and names are such as "
                f"{', '.join(list(cases)[:: max(len(cases) // 6, 1)])}"
            )
    return [
        name
        for name, case in cases.items()
        if not patterns or any(_matches(name, case.kind, pattern) for pattern in patterns)
    ]


def _matches(name: str, kind: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or pattern == kind
