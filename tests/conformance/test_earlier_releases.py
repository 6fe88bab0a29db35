"""Profiles of earlier releases against those releases. Opt-in: it installs them from the package index.

    GEMMA4_MM_RELEASES=5.12.1,5.20.0 pytest tests/conformance/test_earlier_releases.py

Each release gets a virtual environment over this one's packages, so that torch is not installed again. Set
`GEMMA4_MM_RELEASES_DIR` to keep them.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from gemma4_mm import Processor, Profile
from gemma4_mm.conformance.cases import all_cases, random_cases
from gemma4_mm.conformance.reference import Reference
from gemma4_mm.conformance.run import run_parity
from gemma4_mm.conformance.subject import OwnSubject

RELEASES = [name for name in os.environ.get("GEMMA4_MM_RELEASES", "").split(",") if name]

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not RELEASES, reason="installs other releases; opt in with GEMMA4_MM_RELEASES=5.12.1,5.20.0"),
]


@pytest.fixture(scope="session")
def python_with(tmp_path_factory):
    """A release's name to an interpreter that has it."""
    kept = os.environ.get("GEMMA4_MM_RELEASES_DIR")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("releases")

    def make(release):
        place = folder / release
        python = place / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
            # This environment's packages come after the new one's own
            site = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
            below = [path for path in sys.path if path.endswith("site-packages")]
            lines = [f"import site; site.addsitedir({path!r})" for path in below]
            (site / "zz_below.pth").write_text("\n".join(lines) + "\n")
            pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
            subprocess.run([*pip, f"transformers=={release}"], check=True)
        return python

    return make


@pytest.mark.parametrize("release", RELEASES)
def test_a_profile_is_its_release(release, python_with, assets):
    profile = Profile.transformers(release)
    subject = OwnSubject(Processor.from_pretrained(assets.tokenizer.parent, profile=profile))
    cases = [case for case in all_cases() if profile.at_least(case.options.get("since", "5.10.1"))]
    with Reference(python=python_with(release)) as reference:
        assert reference.versions["transformers"] == release
        report = run_parity(
            [*cases, *random_cases(200, seed=1)],
            subject,
            reference,
            subject_name="ours",
            profile=profile.name,
            seed=1,
        )
    assert [result.message for result in report.failures] == []
    assert report.passed
