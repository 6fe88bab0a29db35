"""The plugin in small projects of other people: passing, failing in words, skipped, and refused in CI."""

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

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
    budget = case.options.get("max_soft_tokens", 280)
    scale = (budget * 48 * 48 / (rgb.shape[0] * rgb.shape[1])) ** 0.5
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

        import pytest
        from hypothesis import given, settings
        from gemma4_mm.conformance.records import Case
        from gemma4_mm.testing.strategies import waveforms
        import port

        def test_sounds(gemma4_parity):
            report = gemma4_parity.check(port.right, cases=["audio-remainder-*", "audio-tone"])
            assert report.passed
            assert report.n_cases > 3
            assert report.subject == "port:right"

        def test_pictures(gemma4_parity):
            gemma4_parity.check(port.with_pillow, cases=["image-white", "image-letters"], report=Path("report.html"))

        def test_one_stage(gemma4_parity):
            gemma4_parity.check_stages("image-noise", {"target_size": [432, 335]})

        def test_nothing_given(gemma4_parity):
            gemma4_parity.check(lambda case: {}, cases=["image-noise"])

        def test_everything_asked(gemma4_parity):
            gemma4_parity.check(port.right, cases=["audio-tone"], partial=False)

        @settings(max_examples=3, database=None, deadline=None)
        @given(samples=waveforms())
        def test_random_sounds(gemma4_parity, samples):
            case = Case(name="drawn", kind="audio", inputs={"samples": samples}, summary="drawn")
            gemma4_parity.check(port.right, cases=[case])

        def test_no_such_case(gemma4_parity):
            with pytest.raises(ValueError, match="matches 40 cases; name one"):
                gemma4_parity.check_stages("audio", {})

        def test_that_needs_no_oracle(): ...
        """
    )
    result = project.runpytest_subprocess("-m", "parity")
    result.assert_outcomes(passed=3, failed=4, deselected=1)
    result.stdout.re_match_lines(
        [
            r"gemma4-mm 0\.1\.0; oracle transformers 5\.24\.0, torch 2\.14\.1\S*, torchvision 0\.29\.1\S*$",
            r"> +gemma4_parity\.check\(port\.with_pillow, .*",  # the caller's line, not the harness's
            r"E +AssertionError: case image-letters, stage resized_rgb, pixel \(row .*: this looks like Pillow's .*",
            r"E +port:with_pillow against transformers 5\.24\.0: 1 of 2 cases differs, in 1 of 4 stages",
            r"E +image-letters: resized_rgb",
            r"E +AssertionError: case image-noise, stage target_size, size: 335×432 px, expected 336×432 px; .*",
            r"E +AssertionError: Nothing was compared: the subject left every stage out",
            r"E +AssertionError: case audio-tone, stage frames_mask: the subject does not give it",
        ]
    )
    assert "1 of 2 cases differs" in (project.path / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def needing(project):
    """One test that needs the oracle, one that is marked so, and one that needs nothing."""
    project.makepyfile(
        """
        import pytest

        def test_port(gemma4_parity):
            gemma4_parity.check(lambda case: {}, cases=["image-noise"])

        @pytest.mark.parity
        def test_marked():
            import transformers

        def test_that_needs_no_oracle(): ...
        """
    )
    return project


def test_without_the_oracle_tests_are_skipped_with_the_reason(needing, bare_python):
    result = needing.runpytest_subprocess("-rs", f"--gemma4-oracle-python={bare_python}")
    result.assert_outcomes(passed=1, skipped=2)
    reason = r"oracle missing in \S+: it needs transformers==5\.24\.0, which is not installed; pip install "
    result.stdout.re_match_lines(
        [rf"gemma4-mm 0\.1\.0; {reason}'gemma4-mm\[parity\]'", rf"SKIPPED \[\d\] .*: {reason}.*"]
    )


def test_in_ci_a_missing_oracle_is_an_error(needing, bare_python, monkeypatch):
    monkeypatch.setenv("CI", "true")
    result = needing.runpytest_subprocess(f"--gemma4-oracle-python={bare_python}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.re_match_lines(
        [r"ERROR: 2 parity tests may not be skipped in CI: oracle missing in .*-m 'not parity'"]
    )
    needing.runpytest_subprocess(f"--gemma4-oracle-python={bare_python}", "-m", "not parity").assert_outcomes(
        passed=1, deselected=2
    )


def test_the_interpreter_may_stand_in_the_configuration(needing, bare_python):
    needing.makefile(".ini", pytest=SETTINGS + f"gemma4_oracle_python = {bare_python}\n")
    needing.runpytest_subprocess().assert_outcomes(passed=1, skipped=2)


def test_a_wrong_interpreter_is_named(needing):
    result = needing.runpytest_subprocess("-rs", "--gemma4-oracle-python=/nowhere/python")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["*oracle missing in /nowhere/python: there is no such program; give a virtual *"])


def test_a_project_that_does_not_ask_for_the_plugin_does_not_notice_it(pytester, monkeypatch):
    """Installed is not active: no header, no marker, and nothing imported."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error")
    pytester.makepyfile(
        """
        import sys

        def test_other_things():
            assert "gemma4_mm" not in sys.modules
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*gemma4*")


def test_the_plugin_imports_no_more_than_the_package():
    code = (
        "import sys, pytest; import gemma4_mm; before = set(sys.modules); import gemma4_mm.testing.plugin\n"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "['gemma4_mm']"


def test_the_pins_are_those_of_the_extra():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"]["parity"]
    assert {f"{package}=={pin}" for package, pin in ORACLE_PINS.items()} <= set(extra)


def test_another_release_is_a_gap(tmp_path, bare_python):
    """An interpreter whose transformers is another one: its metadata is all that is asked for."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = Path(bare_python).parents[1] / "lib" / version / "site-packages"
    for package, found in (ORACLE_PINS | {"transformers": "5.25.0"}).items():
        folder = site / f"{package}-{found}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {found}\n", encoding="utf-8"
        )
    oracle = find_oracle(bare_python)
    assert oracle.versions["transformers"] == "5.25.0"
    assert oracle.gap == "it needs transformers==5.24.0, but 5.25.0 is installed; pip install 'gemma4-mm[parity]'"
    assert find_oracle(str(tmp_path / "python")).gap.startswith("there is no such program")
