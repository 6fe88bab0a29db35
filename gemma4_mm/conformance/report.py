"""Parity reports as files."""

from pathlib import Path

from gemma4_mm.conformance.records import ParityReport
from gemma4_mm.errors import InputError


def write_report(report: ParityReport, path: Path) -> None:
    """Write a report in the format that the suffix names.

    Raises:
        InputError: an unknown suffix, or a path that cannot be written.
    """
    check_report_path(path)
    try:
        path.write_text(report.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose a writable path") from error


def check_report_path(path: Path) -> None:
    """Check, before a long run, that a report can be written there.

    Raises:
        InputError: an unknown suffix, or no such folder.
    """
    if path.suffix != ".json":
        raise InputError(f"{path}: a report ends in .json; choose such a name")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no directory; choose a writable path for the report")
