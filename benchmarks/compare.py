"""Speed against the reference, bit equality first: `python -m benchmarks.compare`.

All sides of a work run interleaved in one process, and the shortest of all runs counts. Ours and Hugging Face's each
have the better of one and two threads. `--mlx-python` adds mlx-vlm, which times itself in an environment of its own,
and the share of pixel values in which it differs. Cold start and peak memory are measured on whole processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import cold, memory, reference
from benchmarks.cases import CASES, Case
from benchmarks.report import Row, markdown, print_row, replace_in_readme
from benchmarks.timing import LEAST_RUNS, Side, shortest_ms
from gemma4_mm.execution import Execution

_THREADS: Final = (1, 2)
_OURS: Final = ("numpy", "numba")
_COLD_TARGET: Final = 4.0
_MEMORY_TARGET: Final = 4.0
_MLX_VERSION: Final = "import importlib.metadata as m; print(m.version('mlx-vlm'))"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line per work; return 1 if a ratio is below its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help=f"interleaved runs of each side; at least {LEAST_RUNS}")
    parser.add_argument("--only", default="", help="only the works whose name contains this")
    parser.add_argument("--mlx-python", type=Path, help="python of an environment with mlx-vlm[cpu]==0.7.10")
    parser.add_argument("--markdown", action="store_true", help="print the table of the README at the end")
    parser.add_argument("--readme", action="store_true", help="write it into the README")
    options = parser.parse_args(arguments)
    if slow := [name for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ]:
        print(f"note: {' and '.join(slow)} choose a slower BLAS kernel; unset them to measure this processor's own")
    rows = []
    for row in _measure(options):
        print_row(row)
        rows.append(row)
    mlx_version = _run([options.mlx_python, "-c", _MLX_VERSION]).strip() if options.mlx_python else None
    table = markdown(rows, runs=max(options.runs, LEAST_RUNS), mlx_version=mlx_version)
    if options.markdown:
        print(table)
    if options.readme:
        replace_in_readme(table)
    return int(any(row.missed for row in rows))


def _measure(options: argparse.Namespace) -> Any:
    for make_case in CASES:
        case = make_case()
        if options.only in case.name:
            yield _compare(case, runs=options.runs, mlx_python=options.mlx_python)
    if options.only in "cold process":
        start = cold.measure()
        yield Row(
            name="cold process, `encode` of one JPEG",
            unit="s",
            ours={"numpy": start.ours_s},
            theirs=start.theirs_s,
            targets={"numpy": _COLD_TARGET},
        )
    if options.only in "peak memory":
        peaks_mb = memory.measure()
        yield Row(
            name="peak memory over the image, 4000×3000",
            unit="MB",
            ours={side: peaks_mb[side] for side in _OURS},
            theirs=peaks_mb["HF"],
            targets=dict.fromkeys(_OURS, _MEMORY_TARGET),
        )


def _compare(case: Case, *, runs: int, mlx_python: Path | None) -> Row:
    executions = {
        f"{kernel} {threads}": Execution(kernel=kernel, threads=threads) for kernel in _OURS for threads in _THREADS
    }
    truth = {key: np.asarray(value) for key, value in case.theirs().items()}
    for name, execution in executions.items():
        _assert_equal(case.ours(execution), truth, name=f"{case.name}, {name}")
    sides = {f"HF {threads}": Side(call=case.theirs, torch_threads=threads) for threads in _THREADS}
    if case.floor is not None:
        sides |= {f"floor {threads}": Side(call=case.floor, torch_threads=threads) for threads in _THREADS}
    # torch's threads spin for a while after their work: ours follow its single-threaded runs
    ordered = dict(sorted(sides.items(), key=lambda item: -(item[1].torch_threads or 0)))
    for name, execution in executions.items():
        ordered[name] = Side(call=lambda execution=execution: case.ours(execution))  # type: ignore[misc]
    times = shortest_ms(ordered, runs=runs)
    best = {side: min(value for name, value in times.items() if name.split()[0] == side) for side in (*_OURS, "HF")}
    return Row(
        name=case.name,
        unit="ms",
        ours={side: best[side] for side in _OURS},
        theirs=best["HF"],
        floor=min((value for name, value in times.items() if name.startswith("floor")), default=None),
        mlx=_time_mlx(case, truth, runs=runs, python=mlx_python) if mlx_python else None,
        targets={"numpy": case.numpy_target, "numba": case.numba_target},
        single={side: times[f"{side} 1"] for side in (*_OURS, "HF")},
    )


def _assert_equal(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, name: str) -> None:
    """Every tensor of ours, bit by bit; theirs has counts beside them."""
    for key, value in ours.items():
        if theirs[key].dtype != value.dtype or not np.array_equal(theirs[key], value):
            raise SystemExit(f"{name}: {key} differs; run the tests")


def _time_mlx(case: Case, truth: Mapping[str, Any], *, runs: int, python: Path) -> tuple[float, float]:
    """Milliseconds of mlx-vlm, and the share of pixel values that are not the reference's."""
    with tempfile.TemporaryDirectory() as place:
        paths = [Path(place) / f"{index}.npy" for index in range(len(case.arrays))]
        for path, array in zip(paths, case.arrays, strict=True):
            np.save(path, array)
        pixels = Path(place) / "pixels.npy"
        worker = Path(__file__).with_name("mlx_worker.py")
        runs = max(runs, LEAST_RUNS)
        folder = reference.assets().tokenizer.parent
        output = _run([python, worker, case.mlx, str(runs), folder, pixels, *paths])
        wanted = truth["pixel_values_videos" if case.mlx == "video" else "pixel_values"]
        differs = np.load(pixels).reshape(wanted.shape) != wanted
        return float(json.loads(output.splitlines()[-1])["ms"]), float(differs.mean())


def _run(command: list[Any]) -> str:
    run = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)  # noqa: S603 (our own)
    if run.returncode:
        raise SystemExit(f"{command[0]} failed:\n{run.stderr}")
    return run.stdout


if __name__ == "__main__":
    sys.exit(main())
