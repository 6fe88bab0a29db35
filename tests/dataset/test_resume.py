"""A run that is killed at any moment, processes and all, goes on and ends in the very files of an undisturbed one."""

import os
import pty
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.dataset.files import contents, request, write_requests

N_REQUESTS = 160
N_KILLS = 10
ARGUMENTS = ["--workers", "2", "--shard-size", "3", "--max-soft-tokens", "70", "--num-frames", "1"]


@pytest.fixture
def command(folder, model):
    records = [request(index) for index in range(N_REQUESTS)]
    records[17] = "{"
    records[90]["messages"][0]["content"][0] = {"type": "image", "image": "media/none.jpg"}
    write_requests(folder / "requests.jsonl", records)

    def words(out):
        return [sys.executable, "-m", "gemma4_mm", "batch", "requests.jsonl", out, "--model", str(model), *ARGUMENTS]

    return words


def finished(folder):
    """Shards that are in place, with their times: none of them may be written again."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*.safetensors")}


def kill_at_random(command, folder, generator):
    """Start a run in a process group of its own, and kill the group after so many new files or so much time."""
    out = folder / "killed"
    before = len(list(out.glob("*shard-*"))) if out.exists() else 0
    n_new = generator.choice([0, 1, 1, 2, 2, 3])  # 0: while it starts
    with subprocess.Popen(
        command("killed"), cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        if n_new == 0:
            time.sleep(generator.uniform(0.05, 0.6))
        while n_new and process.poll() is None and len(list(out.glob("*shard-*"))) < before + n_new:
            time.sleep(0.0005)
        time.sleep(generator.uniform(0, 0.02))
        os.killpg(process.pid, signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


def test_killed_ten_times_it_ends_as_if_undisturbed(folder, command):
    generator = random.Random(6)  # noqa: S311 (not for secrets)
    done = {}
    for _ in range(N_KILLS):
        assert kill_at_random(command, folder, generator), "the run ended before it was killed: give it more to do"
        now = finished(folder / "killed")
        assert done.items() <= now.items()
        done = now
    assert 0 < len(done) < N_REQUESTS // 3
    assert not (folder / "killed/index.jsonl").exists()
    last = subprocess.run(command("killed"), cwd=folder, capture_output=True, text=True, check=True)
    assert f"{len(done)} of them from an earlier run" in last.stdout
    assert done.items() <= finished(folder / "killed").items()
    subprocess.run(command("undisturbed"), cwd=folder, capture_output=True, check=True)
    assert contents(folder / "killed") == contents(folder / "undisturbed")
    assert len((folder / "killed/errors.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_ctrl_c_ends_every_process_and_says_how_to_go_on(folder, command):
    with subprocess.Popen(
        command("out"), cwd=folder, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not list((folder / "out").glob("shard-*")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGINT)
        _, shown = process.communicate()  # ends when the last process that holds stderr has ended
    assert process.returncode == 130
    assert shown == "gemma4-mm: stopped; the same command goes on in out\n"
    assert [path.name for path in (folder / "out").glob(".*")] == [".lock"]


def test_progress_is_shown_on_a_terminal_alone(folder, command):
    piped = subprocess.run(command("piped"), cwd=folder, capture_output=True, text=True, check=True)
    assert piped.stderr == ""
    assert "160 requests in 54 shards in piped" in piped.stdout
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command("seen"), cwd=folder, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(theirs)
        shown = bytearray()
        try:
            while data := os.read(ours, 1 << 16):
                shown += data
        except OSError:  # how a terminal ends on Linux
            pass
        os.close(ours)
        process.stdout.read()
    assert process.returncode == 0
    assert b"160/160" in shown
    assert b"2 failed" in shown
    assert contents(folder / "piped") == contents(folder / "seen")


def test_two_runs_do_not_share_a_folder(folder, command):
    with subprocess.Popen(command("out"), cwd=folder, stdout=subprocess.PIPE) as first:
        while not (folder / "out/run.json").exists():
            assert first.poll() is None
            time.sleep(0.001)
        first.send_signal(signal.SIGSTOP)  # or it might be done before the second has begun
        second = subprocess.run(command("out"), cwd=folder, capture_output=True, text=True, check=False)
        first.send_signal(signal.SIGCONT)
        assert second.returncode == 1
        assert "another run is writing" in second.stderr
        first.communicate()
    assert first.returncode == 0
