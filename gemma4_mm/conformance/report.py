"""Parity reports as files."""

from pathlib import Path

from gemma4_mm.conformance.records import ParityReport
from gemma4_mm.errors import InputError


def write_report(report: ParityReport, path: Path) -> None:
    """Write a report in the format that the suffix names.

    Raises:
        InputError: an unknown suffix, or a path that cannot be written.
    """
    if path.suffix != ".json":
        raise InputError(f"{path}: a report ends in .json; choose such a name")
    try:
        path.write_text(report.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose a writable path") from error
