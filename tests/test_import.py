"""What an import costs: numpy, and nothing heavier."""

import json
import subprocess
import sys

import pytest

from gemma4_mm.errors import MissingDependencyError
from gemma4_mm.optional import require

HEAVY = ["PIL", "numba", "llvmlite", "ml_dtypes", "torch", "transformers", "librosa", "soundfile", "soxr", "av",
         "tokenizers", "jinja2", "safetensors", "huggingface_hub", "typer", "rich", "scipy", "hypothesis",
         "filelock", "ray", "pandas", "pyarrow"]  # fmt: skip
LIST_MODULES = "import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"


@pytest.mark.parametrize(
    "module",
    [
        "gemma4_mm",
        "gemma4_mm.processor",
        "gemma4_mm.media.video",
        "gemma4_mm.assets.find",
        "gemma4_mm.dataset",
        "gemma4_mm.conformance.run",
        "gemma4_mm.conformance.subject",
    ],
)
def test_an_import_loads_numpy_and_nothing_heavier(module):
    code = LIST_MODULES.format(module=module)
    output = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(output.stdout)
    assert "numpy" in loaded
    assert [name for name in HEAVY if name in loaded] == []
    assert output.stderr == ""


def test_a_command_loads_no_other_commands_harness_or_runtime():
    code = LIST_MODULES.format(module="gemma4_mm.cli.app")
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parts = {".".join(name.split(".")[:2]) for name in json.loads(output.stdout)}
    assert "gemma4_mm.cli" in parts
    assert parts.isdisjoint({"gemma4_mm.conformance", "gemma4_mm.testing"})
    assert "gemma4_mm.coreai.run.session" not in json.loads(output.stdout)


def test_a_missing_library_names_the_install_command():
    with pytest.raises(MissingDependencyError, match=r"pip install 'gemma4-mm\[video\]'") as caught:
        require("no_such_library_here", extra="video")
    assert caught.value.name == "no_such_library_here"
    with pytest.raises(MissingDependencyError, match="pip install 'gemma4-mm'"):
        require("no_such_library_here.part")
