"""The tier on disk: one safetensors file per entry, shared by any number of processes.

A directory of files rather than a database: readers take no lock, a file appears whole (written aside, then renamed),
and nothing is unpickled. diskcache, the usual library, unpickles what it reads and is no longer maintained
(CVE-2025-69872). Every entry carries a SHA-256 of itself; one that does not match is removed and counts as absent.
Writers take a lock for the moment in which they count and evict, so that the bound holds whatever their number.
"""

import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from gemma4_mm.cache.entry import Entry
from gemma4_mm.errors import InputError
from gemma4_mm.optional import require

_VERSION: Final = "v1"
_METADATA_KEY: Final = "gemma4_mm_cache"
_SUFFIX: Final = ".safetensors"
_KEPT: Final = 0.9  # of the bound, after an eviction, so that not every write evicts
_POLL_S: Final = 0.002  # the lock is held for a moment, or for an eviction
_ABANDONED_S: Final = 3600.0  # age of a partial file that nobody is writing any more
_counter = itertools.count()


@dataclass(frozen=True, kw_only=True)
class _File:
    path: Path
    used_ns: int
    n_bytes: int


class DiskTier:
    """Entries of all processes that name this directory.

    Args:
        directory: made where it is missing, for this user alone.
        max_bytes: of all files together.

    Raises:
        InputError: the directory cannot be made.
    """

    def __init__(self, directory: Path, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._root = directory / _VERSION
        self._partials = self._root / "partial"
        self._total = self._root / "bytes"
        self.n_damaged = 0
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._partials.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the cache {directory}: {error}; choose a writable directory") from error

    def get(self, key: str) -> Entry | None:
        """The entry of a key, checked against its SHA-256; it then counts as used."""
        path = self._path(key)
        try:
            entry, digest = _read(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, require("safetensors").SafetensorError):
            entry = None
        if entry is None or entry.digest(key) != digest:
            self.n_damaged += 1
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # another process may evict it right now
            os.utime(path)
        return entry

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry, unless it alone is over the bound. A disk that is full or read-only keeps nothing."""
        path = self._path(key)
        if entry.n_bytes > self.max_bytes or path.exists():
            return
        partial = self._partials / f"{key}.{os.getpid()}.{next(_counter)}"
        try:
            _write(partial, key, entry)
            n_bytes = partial.stat().st_size
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with self._locked():
                if n_bytes <= self.max_bytes and not path.exists():
                    self._set_total(self._room_for(n_bytes) + n_bytes)
                    partial.replace(path)
        except (OSError, require("safetensors").SafetensorError):
            return
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / key[:2] / f"{key}{_SUFFIX}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with require("filelock").FileLock(self._root / "lock").acquire(poll_interval=_POLL_S):
            yield

    def _room_for(self, n_bytes: int) -> int:
        """Bytes that the directory holds, after an eviction if the new file would not fit."""
        try:
            total = int(self._total.read_text(encoding="ascii"))
        except (OSError, ValueError):
            total = self.max_bytes  # unknown: count
        if total + n_bytes <= self.max_bytes:
            return total
        return self._evict(n_bytes)

    def _set_total(self, n_bytes: int) -> None:
        """Note the total before the file appears: a process killed in between makes it too large, never too small."""
        partial = self._partials / "bytes"
        partial.write_text(str(n_bytes), encoding="ascii")
        partial.replace(self._total)

    def _evict(self, n_bytes: int) -> int:
        """Count all files; remove the least recently used while they leave no room. Returns what is left."""
        files = sorted(self._files(), key=lambda file: file.used_ns)
        total = sum(file.n_bytes for file in files)
        if total + n_bytes > self.max_bytes:
            for file in files:
                if total + n_bytes <= max(n_bytes, int(self.max_bytes * _KEPT)):
                    break
                with suppress(OSError):  # open in another process, on systems that forbid it
                    file.path.unlink(missing_ok=True)
                    total -= file.n_bytes
        self._remove_abandoned()
        return total

    def _files(self) -> Iterator[_File]:
        for folder in self._root.iterdir():
            if not folder.is_dir() or folder == self._partials:
                continue
            with os.scandir(folder) as found:
                for file in found:
                    with suppress(FileNotFoundError):  # a damaged one that another process removed
                        status = file.stat()
                        yield _File(path=Path(file.path), used_ns=status.st_mtime_ns, n_bytes=status.st_size)

    def _remove_abandoned(self) -> None:
        oldest = time.time() - _ABANDONED_S
        for path in self._partials.iterdir():
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _read(path: Path) -> tuple[Entry, str]:
    if not path.is_file():
        raise FileNotFoundError(path)  # the library has an exception of its own for that
    with require("safetensors").safe_open(str(path), framework="numpy") as file:
        record: dict[str, Any] = json.loads(file.metadata()[_METADATA_KEY])
        values = file.get_tensor("values")
    return Entry(values=values, plan=record["plan"]), record["sha256"]


def _write(path: Path, key: str, entry: Entry) -> None:
    record = {"plan": dict(entry.plan), "sha256": entry.digest(key)}
    require("safetensors.numpy").save_file(
        {"values": np.ascontiguousarray(entry.values)}, path, metadata={_METADATA_KEY: json.dumps(record)}
    )
