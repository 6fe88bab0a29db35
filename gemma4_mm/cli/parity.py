"""`gemma4-mm parity`: does an implementation compute what Hugging Face's processor computes?"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma4_mm.cli.console import status
from gemma4_mm.cli.request import open_processor
from gemma4_mm.errors import InputError
from gemma4_mm.releases import Profile

if TYPE_CHECKING:
    from gemma4_mm.conformance.records import Case, Subject

# The harness is imported by the functions that use it: every other command starts faster.


def parity(
    cases: Annotated[
        list[str] | None,
        typer.Option("--cases", help="Names, kinds or shell-style patterns such as 'exif-*'; again for more."),
    ] = None,
    n_random: Annotated[int, typer.Option("--random", min=0, help="So many random cases beside the named ones.")] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random cases.")] = 0,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject", help="module:callable that maps a Case to arrays by stage name. [default: this package]"
        ),
    ] = None,
    subject_dir: Annotated[
        Path | None,
        typer.Option("--subject-dir", help="A directory of one NAME.safetensors, or folder of .npy, per case."),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option("--python", help="The interpreter that has the reference's packages. [default: this one]"),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", help="The release whose behaviour this package is asked for. [default: the reference's]"
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the whole report to this .html, .md or .json.")
    ] = None,
    list_cases: Annotated[bool, typer.Option("--list", help="List the cases and stop.")] = False,
) -> None:
    """Compare an implementation with Hugging Face's processor, stage by stage, bit by bit; exit 1 on a difference."""
    from gemma4_mm.conformance.cases import random_cases, select_cases
    from gemma4_mm.conformance.reference import Reference
    from gemma4_mm.conformance.report import check_report_path, write_report
    from gemma4_mm.conformance.run import run_parity
    from gemma4_mm.conformance.summary import format_report

    chosen = select_cases(cases or ())
    if list_cases:
        for case in chosen:
            typer.echo(f"{case.name:34} {case.kind:13} {case.summary}")
        return
    if subject is not None and subject_dir is not None:
        raise InputError("--subject and --subject-dir name two subjects; give one of them")
    if report is not None:
        check_report_path(report)
    with status() as say, Reference(python=python) as reference:
        release = Profile.transformers(profile or reference.versions["transformers"])
        run, name = _choose_subject(subject, subject_dir, release)
        result = run_parity(
            itertools.chain((case for case in chosen if _has(release, case, say)), random_cases(n_random, seed=seed)),
            run,
            reference,
            subject_name=name,
            profile=release.name,
            partial=subject is not None or subject_dir is not None,
            seed=seed if n_random else None,
            progress=_counting(say),
        )
    typer.echo(format_report(result))
    if report is not None:
        write_report(result, report)
        typer.echo(f"wrote {report}")
    if not result.passed:
        raise typer.Exit(1)


def _choose_subject(subject: str | None, subject_dir: Path | None, release: Profile) -> "tuple[Subject, str]":
    from gemma4_mm.conformance.subject import DirectorySubject, OwnSubject, load_subject

    if subject is not None:
        return load_subject(subject), subject
    if subject_dir is not None:
        return DirectorySubject(subject_dir), str(subject_dir)
    return OwnSubject(open_processor(None, profile=release)), f"gemma4_mm ({release.name})"


def _has(release: Profile, case: "Case", say: Callable[[str], None]) -> bool:
    """Whether a case asks for nothing that came after the release; says so where it does."""
    since = case.options.get("since")
    if since is None or release.at_least(since):
        return True
    say(f"{case.name} is left out: {release.name} does not have what it asks for, which came with {since}")
    return False


def _counting(say: Callable[[str], None]) -> Callable[[str], None]:
    """Name each case on a terminal, and every hundredth elsewhere."""
    counter = itertools.count(1)

    def progress(name: str) -> None:
        if (number := next(counter)) % 100 == 0 or sys.stderr.isatty():
            say(f"case {number}: {name}")

    return progress
