"""Parity reports as files: a page to read, a table for a pull request, or JSON to read back."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gemma4_mm.conformance.records import ParityReport
from gemma4_mm.conformance.report.render import render_html, render_markdown
from gemma4_mm.errors import InputError

_FORMATS: Final[Mapping[str, Callable[[ParityReport], str]]] = {
    ".html": render_html,
    ".md": render_markdown,
    ".json": lambda report: report.to_json() + "\n",
}


def write_report(report: ParityReport, path: Path) -> None:
    """Write a report in the format that the suffix names.

    Args:
        report: a whole run.
        path: `.html`, one file that holds its pictures and fetches nothing; `.md`, short, for a pull request; `.json`,
            which `ParityReport.from_json` reads back.

    Raises:
        InputError: an unknown suffix, or a path that cannot be written.
    """
    check_report_path(path)
    try:
        path.write_text(_FORMATS[path.suffix.lower()](report), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose a writable path") from error


def check_report_path(path: Path) -> None:
    """Check, before a long run, that a report can be written there.

    Raises:
        InputError: an unknown suffix, or no such folder.
    """
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"{path} ends in {path.suffix or 'no suffix'!r}; a report ends in {', '.join(_FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no directory; choose a writable path for the report")
