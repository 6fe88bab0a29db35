"""Rows of measurements, printed and written into the README."""

import datetime as dt
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

README: Final = Path(__file__).parents[1] / "README.md"
_BEGIN: Final = "<!-- benchmarks: written by `python -m benchmarks.compare --readme` -->"
_END: Final = "<!-- /benchmarks -->"
_PACKAGES: Final = ("numpy", "numba", "pillow", "torch", "torchvision", "transformers")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One work, in milliseconds, seconds or megabytes: less is better.

    Attributes:
        name: the work.
        unit: of all values.
        ours: by kernel.
        theirs: Hugging Face's.
        floor: torchvision's resize alone.
        mlx: mlx-vlm's value, and the share of its pixel values that differ from the reference's.
        targets: least ratio theirs / ours, by kernel.
        single: of ours and "HF" on one thread.
    """

    name: str
    unit: Literal["ms", "s", "MB"]
    ours: Mapping[str, float]
    theirs: float
    floor: float | None = None
    mlx: tuple[float, float] | None = None
    targets: Mapping[str, float]
    single: Mapping[str, float] = field(default_factory=dict)

    def ratio(self, kernel: str) -> float:
        """Theirs / ours."""
        return self.theirs / self.ours[kernel]

    @property
    def missed(self) -> bool:
        """Whether a ratio is below its target."""
        return any(self.ratio(kernel) < target for kernel, target in self.targets.items())


def print_row(row: Row) -> None:
    """One line per row, with targets."""
    parts = [f"{row.name:36} HF {_value(row.theirs, row.unit):>9}"]
    for kernel, target in row.targets.items():
        verdict = "" if row.ratio(kernel) >= target else " MISSED"
        parts.append(
            f"{kernel} {_value(row.ours[kernel], row.unit):>8}, {row.ratio(kernel):5.2f}× (target {target}){verdict}"
        )
    if row.single:
        parts.append("one thread: " + ", ".join(f"{side} {value:.2f}" for side, value in row.single.items()))
    if row.floor is not None:
        parts.append(f"torchvision {_value(row.floor, row.unit)}")
    if row.mlx is not None:
        parts.append(f"mlx-vlm {_value(row.mlx[0], row.unit)}, {row.mlx[1]:.1%} differ")
    print("; ".join(parts), flush=True)


def markdown(rows: Sequence[Row], *, runs: int, mlx_version: str | None) -> str:
    """The README's table, with machine, versions and date."""
    lines = [
        "| work | numpy | numba | HF | HF / numpy | HF / numba | bare resize | mlx-vlm (values that differ) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.name]
        cells += [_value(row.ours[kernel], row.unit) if kernel in row.ours else "–" for kernel in ("numpy", "numba")]
        cells.append(_value(row.theirs, row.unit))
        cells += [f"{row.ratio(kernel):.1f}" if kernel in row.ours else "–" for kernel in ("numpy", "numba")]
        cells.append("–" if row.floor is None else _value(row.floor, row.unit))
        cells.append("–" if row.mlx is None else f"{_value(row.mlx[0], row.unit)} ({row.mlx[1]:.1%})")
        lines.append(f"| {' | '.join(cells)} |")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES)
    if mlx_version is not None:
        versions += f", mlx-vlm {mlx_version}"
    blas = [f"{name}={os.environ[name]}" for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ]
    today = dt.datetime.now(tz=dt.UTC).date()
    note = (
        f"{today}, {os.cpu_count()} cores of {_processor_name()}, Python {platform.python_version()}, {versions}"
        f"{', ' + ' '.join(blas) if blas else ''}. Times: shortest of {runs} interleaved runs; cold process: medians "
        "of 5; memory: least of 3."
    )
    return "\n".join([*lines, "", *_wrapped(note)])


def replace_in_readme(table: str, *, path: Path = README) -> None:
    """Put a table where the last one stands."""
    text = path.read_text(encoding="utf-8")
    pattern = re.compile(f"({re.escape(_BEGIN)}\n).*?({re.escape(_END)})", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{path} has no place for the table; put these two lines where it belongs:\n{_BEGIN}\n{_END}")
    path.write_text(pattern.sub(lambda match: f"{match[1]}\n{table}\n\n{match[2]}", text), encoding="utf-8")


def _value(value: float, unit: str) -> str:
    digits = 2 if unit == "s" or value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {unit}"


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _wrapped(text: str, *, width: int = 118) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
