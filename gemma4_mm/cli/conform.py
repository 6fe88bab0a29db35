"""`gemma4-mm conform`: a port's output against the fixtures."""

from pathlib import Path
from typing import Annotated

import typer


def conform(
    fixtures: Annotated[Path, typer.Argument(help="Directory of fixtures.")],
    output: Annotated[
        Path,
        typer.Argument(help="What the port wrote: per case NAME.safetensors, or NAME/STAGE.npy.", metavar="OUTPUT"),
    ],
    cases: Annotated[
        list[str] | None, typer.Option("--cases", help="Only cases of such a name ('exif-*') or kind; repeatable.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="The port may leave out cases and stages; what it wrote must be equal.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the comparison to .html, .md or .json.")
    ] = None,
) -> None:
    """Compare what a port in another language wrote with the fixtures, in every bit.

    Exits with 1 if a case or stage is missing or differs.
    """
    from gemma4_mm.conformance.conform import conform as compare
    from gemma4_mm.conformance.golden import Fixtures
    from gemma4_mm.conformance.report import check_report_path, write_report
    from gemma4_mm.conformance.summary import format_report

    if report is not None:
        check_report_path(report)
    found = compare(Fixtures.open(fixtures), output, patterns=cases or (), partial=partial)
    typer.echo(format_report(found))
    if report is not None:
        write_report(found, report)
        typer.echo(f"wrote {report}")
    if not found.passed:
        raise typer.Exit(1)
