"""Is the pinned oracle installed, here or under another interpreter? Asked without importing it."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Final

# The versions that parity is defined with, as in the extra `parity`
ORACLE_PINS: Final[Mapping[str, str]] = {"transformers": "5.24.0", "torch": "2.14.1", "torchvision": "0.29.1"}
_ASK: Final = """
import json, sys
from importlib import metadata
def version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
print(json.dumps({package: version(package) for package in sys.argv[1:]}))
"""


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """What is known of the oracle before it runs.

    Attributes:
        python: the interpreter; None for this one.
        versions: of the pinned packages that are installed there.
        gap: why it cannot run, and what to do; None if it can.
    """

    python: str | None
    versions: Mapping[str, str]
    gap: str | None

    def describe(self) -> str:
        """One line for a test run's header."""
        where = f" in {self.python}" if self.python else ""
        if self.gap is not None:
            return f"oracle missing{where}: {self.gap}"
        return "oracle " + ", ".join(f"{package} {version}" for package, version in self.versions.items()) + where


def find_oracle(python: str | None = None) -> Oracle:
    """Look for the pinned packages.

    Args:
        python: the interpreter to look in; None for this one.
    """
    if python is not None and shutil.which(python) is None:
        return Oracle(python=python, versions={}, gap="there is no such program; give a virtual environment's python")
    found = _versions_here() if python is None else _versions_there(python)
    versions = {package: version for package, version in found.items() if version is not None}
    return Oracle(python=python, versions=versions, gap=_find_gap(found))


def _find_gap(found: Mapping[str, str | None]) -> str | None:
    for package, pin in ORACLE_PINS.items():
        version = found[package]
        if version is None:
            return f"it needs {package}=={pin}, which is not installed; pip install 'gemma4-mm[parity]'"
        if version.split("+")[0] != pin:
            return f"it needs {package}=={pin}, but {version} is installed; pip install 'gemma4-mm[parity]'"
    return None


def _versions_here() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in ORACLE_PINS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _versions_there(python: str) -> dict[str, str | None]:
    asked = subprocess.run(  # noqa: S603 (an interpreter that the user names)
        [python, "-c", _ASK, *ORACLE_PINS], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        return dict.fromkeys(ORACLE_PINS)
    found: dict[str, str | None] = json.loads(asked.stdout)
    return found
