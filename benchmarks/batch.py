"""`python -m benchmarks.batch`: 2,000 small requests with one process and with two, kills in between, and memory.

Each figure is of whole runs of the command, start-up included; runs with one and with two processes take turns. Needs
6 GB in the folder that it works in.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gemma4_mm.assets.find import fetch_assets
from gemma4_mm.cli.demo_media import write_photo, write_sound

N_REQUESTS: Final = 2000
N_FEW: Final = 500
N_START: Final = 16  # requests of a run that is little more than start-up
N_KILLS: Final = 10
N_MEDIA: Final = 8  # different files of each kind
TARGET: Final = 1.8
MOST_GROWTH: Final = 1.05  # of the peak memory, from 500 to 2,000 requests
OPTIONS: Final = ("--max-soft-tokens", "70", "--shard-size", "16")


def main() -> int:
    """Print every figure; 1 if one is not what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--runs", type=int, default=3, help="pairs of runs")
    parser.add_argument("--only", choices=["throughput", "memory", "kills"], help="one part alone")
    options = parser.parse_args()
    fetch_assets()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        _write_requests(folder)
        parts: dict[str, Callable[[], bool]] = {
            "throughput": lambda: _throughput(folder, runs=options.runs),
            "memory": lambda: _memory(folder),
            "kills": lambda: _kills(folder),
        }
        passed = [part() for name, part in parts.items() if options.only in (None, name)]
    return 0 if all(passed) else 1


def _throughput(folder: Path, *, runs: int) -> bool:
    """Both numbers of workers in turn; the ratio is of the fastest runs, as everything else only disturbs."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(runs):
        for workers, column in times.items():
            load = os.getloadavg()[0]
            column.append(_run(folder, workers=workers).seconds)
            print(f"  {workers} processes: {column[-1]:.2f} s (load before {load:.1f})", flush=True)
    best = {workers: min(column) for workers, column in times.items()}
    paired = statistics.median(one / two for one, two in zip(times[1], times[2], strict=True))
    ratio = best[1] / best[2]
    for workers in best:
        start = min(_run(folder, workers=workers, n_requests=N_START).seconds for _ in range(2))
        rate = (N_REQUESTS - N_START) / (best[workers] - start)
        print(f"  {workers} processes: {start:.2f} s for {N_START} requests, {rate:.0f} requests/s after that")
    rates = ", ".join(f"{workers}: {N_REQUESTS / seconds:.0f} requests/s" for workers, seconds in best.items())
    print(f"throughput: {rates}; ratio {ratio:.2f} (median of pairs {paired:.2f}), wanted {TARGET}")
    return ratio >= TARGET


def _memory(folder: Path) -> bool:
    """Peak of the largest process, and of the command itself, at 500 and at 2,000 requests."""
    few, many = (_run(folder, workers=2, n_requests=n).peak_mb for n in (N_FEW, N_REQUESTS))
    print(f"peak memory of a process: {few:.0f} MB at {N_FEW} requests, {many:.0f} MB at {N_REQUESTS}")
    return many <= few * MOST_GROWTH


def _kills(folder: Path) -> bool:
    """Kill the whole process group at random moments, go on, and compare with an undisturbed run."""
    _run(folder, workers=2, out="undisturbed")
    expected = _digests(folder / "undisturbed")
    shutil.rmtree(folder / "undisturbed")
    generator = random.Random(6)  # noqa: S311 (not for secrets)
    for kill in range(N_KILLS):
        n_new = generator.randint(0, 9)  # shards after which it is killed; 0: while it starts
        before = _n_shards(folder)
        with subprocess.Popen(  # noqa: S603 (our own command lines)
            _command(folder, workers=2, out="killed"), start_new_session=True, stdout=subprocess.DEVNULL
        ) as process:
            if n_new == 0:
                time.sleep(generator.uniform(0.05, 1.5))
            while n_new and process.poll() is None and _n_shards(folder) < before + n_new:
                time.sleep(0.002)
            time.sleep(generator.uniform(0, 0.1))
            os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
        print(f"  killed {kill + 1} times, {_n_shards(folder)} shards there", flush=True)
    command = _command(folder, workers=2, out="killed")
    last = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 (our own command lines)
    print(f"  {last.stdout.strip()}")
    same = _digests(folder / "killed") == expected
    shutil.rmtree(folder / "killed")
    print(f"killed {N_KILLS} times and resumed: {len(expected)} files {'identical' if same else 'DIFFERENT'}")
    return same


def _n_shards(folder: Path) -> int:
    return len(list((folder / "killed").glob("shard-*")))


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Seconds and peak memory of one run as a process of its own."""

    seconds: float
    peak_mb: float


def _run(folder: Path, *, workers: int, n_requests: int = N_REQUESTS, out: str | None = None) -> _Run:
    command = _command(folder, workers=workers, out=out or "out", n_requests=n_requests)
    measure = (
        "import json, resource, subprocess, sys, time\n"
        "start = time.perf_counter()\n"
        "report = json.loads(subprocess.run(sys.argv[1:], check=True, stdout=subprocess.PIPE).stdout)\n"
        "assert report['n_failed'] == 0, report\n"
        "print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    result = subprocess.run([sys.executable, "-c", measure, *command], check=True, capture_output=True, text=True)  # noqa: S603
    seconds, peak_kb = map(float, result.stdout.split())
    if out is None:
        shutil.rmtree(folder / "out")
    return _Run(seconds=seconds, peak_mb=peak_kb / 1e3 if sys.platform != "darwin" else peak_kb / 1e6)


def _command(folder: Path, *, workers: int, out: str, n_requests: int = N_REQUESTS) -> list[str]:
    requests, target = str(folder / f"{n_requests}.jsonl"), str(folder / out)
    return [
        *(sys.executable, "-m", "gemma4_mm", "batch", requests, target, "--workers", str(workers), "--json", *OPTIONS)
    ]


def _write_requests(folder: Path) -> None:
    """Photographs of 640×480 and sounds of 3 s in turn, with a question each."""
    for number in range(N_MEDIA):
        write_photo(folder / f"photo{number}.jpg", width_px=1024, height_px=768)
        write_sound(folder / f"sound{number}.wav", duration_s=3.0)
    for n_requests in (N_START, N_FEW, N_REQUESTS):
        with (folder / f"{n_requests}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(_request(index)) + "\n" for index in range(n_requests))


def _request(index: int) -> dict[str, Any]:
    number = index % N_MEDIA
    parts = [
        {"type": "image", "image": f"photo{number}.jpg"},
        {"type": "audio", "audio": f"sound{number}.wav"},
        {"type": "text", "text": f"Request {index}: what do you see and hear? Answer in one sentence."},
    ]
    return {"id": index, "messages": [{"role": "user", "content": parts}]}


def _digests(folder: Path) -> dict[str, str]:
    names = sorted(path.name for path in folder.iterdir() if path.name != ".lock")
    return {name: _digest(folder / name) for name in names}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
