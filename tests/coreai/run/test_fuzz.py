"""No input ends the process: hundreds of random wrong calls give typed errors, and the runtime still answers."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gemma4_mm.coreai.bundle.bundle import Bundle

N_CALLS = 600
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("program", ["fuzz", "fuzz_session"])
def test_random_wrong_calls_are_typed_errors_and_the_process_lives(chat_bundle: Bundle, program: str) -> None:
    command = [sys.executable, "-m", f"tests.coreai.{program}", str(chat_bundle.path), str(N_CALLS)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)
    outcomes = result.stdout.splitlines()
    assert result.returncode == 0, (result.returncode, result.stderr[-2000:], outcomes[-3:])
    assert outcomes.pop() == "alive"
    counts = Counter(outcomes)
    assert set(counts) == {"typed", "passed"}, counts
    assert counts["typed"] >= 300
    assert len(outcomes) == N_CALLS
