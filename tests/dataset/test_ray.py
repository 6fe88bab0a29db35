"""The same requests over a local Ray of two processes: the same files as a local run."""

import json
import subprocess
import sys

from tests.dataset.files import contents, request, write_requests


def test_ray_writes_what_a_local_run_writes(folder, model):
    records = [request(index) for index in range(14)]
    records[5] = "{"
    write_requests(folder / "requests.jsonl", records)
    for out, extra in (("local", []), ("ray", ["--ray"])):
        command = [
            *(sys.executable, "-m", "gemma4_mm", "batch", "requests.jsonl", out, "--model", str(model), "--json"),
            *("--workers", "2", "--shard-size", "3", "--max-soft-tokens", "70", "--num-frames", "2", *extra),
        ]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert json.loads(result.stdout)["n_failed"] == 1
    assert contents(folder / "ray") == contents(folder / "local")


def test_what_ends_the_run_is_the_same_error_on_ray(folder, model):
    write_requests(folder / "requests.jsonl", ["{"])
    command = [sys.executable, "-m", "gemma4_mm", "batch", "requests.jsonl", "out", "--model", str(model)]
    result = subprocess.run([*command, "--ray", "--fail-fast"], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "line 1: not JSON" in result.stderr
    assert "Traceback" not in result.stderr
