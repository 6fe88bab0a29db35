"""The tier in memory: the least recently used entries go first."""

from collections import OrderedDict
from threading import Lock

from gemma4_mm.cache.entry import Entry


class MemoryTier:
    """Entries of this process; threads may share it.

    Args:
        max_bytes: of all arrays together; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> Entry | None:
        """The entry of a key, which then counts as used."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry, unless it alone is over the bound."""
        if entry.n_bytes > self.max_bytes:
            return
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = entry
            self.n_bytes += entry.n_bytes
            while self.n_bytes > self.max_bytes:
                _, evicted = self._entries.popitem(last=False)
                self.n_bytes -= evicted.n_bytes
