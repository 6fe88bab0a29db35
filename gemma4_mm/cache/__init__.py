"""A content-addressed cache of encoded media, in memory and on disk; off unless a caller makes one."""

from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Final

from gemma4_mm.cache.disk import DiskTier
from gemma4_mm.cache.entry import Entry
from gemma4_mm.cache.memory import MemoryTier
from gemma4_mm.errors import InputError

__all__ = ["CacheStats", "Entry", "MediaCache"]

_MEMORY_BYTES: Final = 256 << 20
_DISK_BYTES: Final = 10 << 30


@dataclass(frozen=True, kw_only=True)
class CacheStats:
    """What a cache did for this process.

    Attributes:
        hits: items that were not encoded again.
        misses: items that were.
        damaged: files that were not what had been written; each was a miss too.
    """

    hits: int
    misses: int
    damaged: int


class MediaCache:
    """Keeps encoded images, videos and audio under a SHA-256 of their content and of all that the result depends on.

    The content is the bytes of a file, or the pixels of a decoded image or frames; names, paths and times are no part
    of it. The rest of the key is the budget and the other options, the profile, the limits, and the versions of this
    package and of the decoders. A hit gives the very bits of a miss.

    Threads may share one. Pickled, it is its directory and bounds: each process has a memory of its own, all share the
    disk. Use one directory on machines with the same kind of processor: decoders of audio and video may round
    differently on another.

    Args:
        directory: of the files; None for memory alone. Whoever can write there can change what the model sees.
        max_memory_bytes: of the arrays kept in memory; 0 for none.
        max_disk_bytes: of the files.

    Raises:
        InputError: a negative bound, or a directory that cannot be made.
    """

    def __init__(
        self,
        directory: str | PathLike[str] | None = None,
        *,
        max_memory_bytes: int = _MEMORY_BYTES,
        max_disk_bytes: int = _DISK_BYTES,
    ) -> None:
        if max_memory_bytes < 0 or max_disk_bytes < 0:
            raise InputError(f"cache bounds are {max_memory_bytes} and {max_disk_bytes} bytes; they must be at least 0")
        self.directory = None if directory is None else Path(directory).absolute()
        self.max_memory_bytes = max_memory_bytes
        self.max_disk_bytes = max_disk_bytes
        self._memory = MemoryTier(max_memory_bytes)
        self._disk = None if self.directory is None else DiskTier(self.directory, max_bytes=max_disk_bytes)
        self._hits = self._misses = 0

    @property
    def stats(self) -> CacheStats:
        """Counts since this object was made."""
        return CacheStats(
            hits=self._hits, misses=self._misses, damaged=0 if self._disk is None else self._disk.n_damaged
        )

    def get(self, key: str) -> Entry | None:
        """The entry of a key, from memory or else from disk."""
        entry = self._memory.get(key)
        if entry is None and self._disk is not None:
            entry = self._disk.get(key)
            if entry is not None:
                self._remember(key, entry)
        self._hits += entry is not None
        self._misses += entry is None
        return entry

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry; its array is copied where it is a view of a larger one, and read-only from then on."""
        values = entry.values if entry.values.base is None else entry.values.copy()
        entry = Entry(values=values, plan=entry.plan)
        self._remember(key, entry)
        if self._disk is not None:
            self._disk.put(key, entry)

    def _remember(self, key: str, entry: Entry) -> None:
        entry.values.setflags(write=False)
        self._memory.put(key, entry)

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(
            MediaCache,
            self.directory,
            max_memory_bytes=self.max_memory_bytes,
            max_disk_bytes=self.max_disk_bytes,
        )
        return make, ()
