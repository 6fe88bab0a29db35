"""`gemma4-mm fixtures`: golden cases for ports in other languages, built and verified."""

from pathlib import Path
from typing import Annotated

import typer

from gemma4_mm.cli.console import status
from gemma4_mm.processor import Processor

# The harness is imported by the commands that use it: every other command starts faster.

_SHOWN_PROBLEMS = 20

fixtures = typer.Typer(
    name="fixtures",
    help="Golden cases for ports in other languages; SCHEMA.md beside them is all that a port needs.",
    no_args_is_help=True,
)


@fixtures.command()
def build(
    out: Annotated[Path, typer.Argument(help="Directory to write; fixtures that it holds are replaced, clients kept.")],
    n_random: Annotated[int, typer.Option("--random", min=0, help="So many random cases beside the named ones.")] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random cases.")] = 0,
) -> None:
    """Write the fixtures: the same bytes on every machine.

    This package computes them; its tests hold them to the live oracle that the manifest names.
    """
    from gemma4_mm.conformance.golden import build_fixtures
    from gemma4_mm.conformance.subject import OwnSubject

    with status() as report:
        report("loading the tokenizer")
        processor = Processor.from_pretrained(progress=report)
        report("computing the cases")
        size = build_fixtures(out, subject=OwnSubject(processor), n_random=n_random, seed=seed)
    typer.echo(
        f"wrote {size.n_cases} cases to {out}: {size.n_files} files, {size.n_bytes / 1e6:.1f} MB, the largest "
        f"{size.largest_bytes / 1e6:.2f} MB"
    )


@fixtures.command()
def verify(directory: Annotated[Path, typer.Argument(help="Directory of fixtures.")]) -> None:
    """Check every byte against its checksum, and every tensor against what this release computes.

    Exits with 1 if anything differs.
    """
    from gemma4_mm.conformance.golden import measure, verify_fixtures

    problems = verify_fixtures(directory)
    for problem in problems[:_SHOWN_PROBLEMS]:
        typer.echo(problem)
    if len(problems) > _SHOWN_PROBLEMS:
        typer.echo(f"… and {len(problems) - _SHOWN_PROBLEMS} more")
    size = measure(directory)
    if problems:
        typer.echo(f"{directory}: {len(problems)} problem(s) in {size.n_files} files")
        raise typer.Exit(1)
    typer.echo(f"{directory}: {size.n_cases} cases in {size.n_files} files, {size.n_bytes / 1e6:.1f} MB, all as built")
