"""Node.js and the JavaScript port, for the tests that run it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures"
CLIENT = FIXTURES / "clients" / "js"


def require_node():
    """The path of Node.js; without it a test is skipped, with the reason, and in CI fails."""
    node = shutil.which("node")
    if node is None:
        reason = "Node.js is not installed, and the JavaScript port runs on it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return node


def run_client(out, *cases, client=CLIENT, fixtures=FIXTURES, npy=False):
    words = [require_node(), str(client / "client.mjs"), *(["--npy"] if npy else []), str(fixtures), str(out), *cases]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout
