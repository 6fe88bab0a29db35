"""The plugin in small projects of other people: passing, failing in words, skipped, and refused in CI."""

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from gemma4_mm.conformance.records import Case
from gemma4_mm.errors import InputError
from gemma4_mm.testing.oracle import ORACLE_PINS, find_oracle

pytest_plugins = ["pytester"]

CONFTEST = 'pytest_plugins = ["gemma4_mm.testing.plugin"]\n'
SETTINGS = """
[pytest]
addopts = --strict-markers --strict-config -p no:cacheprovider
gemma4_assets_source = registries
filterwarnings =
    error
"""
PORT = """
import numpy as np
from PIL import Image

def right(case):
    \"\"\"Knows audio only.\"\"\"
    samples = case.inputs["samples"]
    frames = np.zeros((-(-len(samples) // 640), 640), np.float32)
    frames.reshape(-1)[: len(samples)] = samples
    return {"frames": frames, "soft_tokens": np.array([len(frames)])}

def with_pillow(case):
    rgb = case.inputs["pixels"]
    scale = (280 * 48 * 48 / (rgb.shape[0] * rgb.shape[1])) ** 0.5
    height, width = (int(side * scale) // 48 * 48 for side in rgb.shape[:2])
    resized = Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)
    return {"target_size": np.array([height, width]), "resized_rgb": np.asarray(resized)}
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """Another project's test-suite; not our settings, and not ours to fail in CI."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makefile(".ini", pytest=SETTINGS)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(port=PORT)
    return pytester


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """An interpreter without a single package."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    return str(folder / "bin" / "python")


@pytest.mark.parity
def test_a_port_passes_or_fails_in_words(project, assets):  # noqa: ARG001 (fills the cache)
    project.makepyfile(
        test_port="""
        from pathlib import Path

        import numpy as np
        import pytest
        from hypothesis import given, settings
        from gemma4_mm.conformance.records import Case
        from gemma4_mm.testing.strategies import waveforms
        import port

        def test_sounds(gemma4_parity):
            report = gemma4_parity.check(port.right, cases=["remainder-*", "audio-empty"][:1])
            assert report.passed
            assert report.n_cases > 3

        def test_pictures(gemma4_parity):
            gemma4_parity.check(port.with_pillow, cases=["gradient-*"], report=Path("report.html"))

        def test_one_stage(gemma4_parity):
            gemma4_parity.check_stages("gradient-landscape", {"target_size": [672, 911]})

        @settings(max_examples=5, database=None, deadline=None)
        @given(samples=waveforms())
        def test_random_sounds(gemma4_parity, samples):
            case = Case(name="drawn", kind="audio", inputs={"samples": samples}, summary="drawn")
            gemma4_parity.check(port.right, cases=[case])

        def test_both_processors(gemma4_oracle, gemma4_processor):
            theirs = gemma4_oracle(text="<|audio|>", audio=[np.ones(700, np.float32)], return_tensors="np")
            ours = gemma4_processor(text="<|audio|>", audio=[np.ones(700, np.float32)])
            assert np.array_equal(theirs["input_features"], ours["input_features"])

        def test_without(): ...
        """
    )
    result = project.runpytest_subprocess("-v", "-m", "parity")
    print(result.stdout.str())
