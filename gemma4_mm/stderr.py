"""The one owner of file descriptor 2: holds back what native libraries write to it, and passes on the rest.

Native code writes past `sys.stderr`, with no switch to stop it, hence the descriptor. It belongs to the whole process,
so its uses are counted: the first to enter puts a temporary file in its place, the last to leave puts the original
back, in whichever order they come and go and whatever each of them drops.

A process may start without stderr, as daemons and windowed interpreters do. Nothing is held then, and whatever file
has got the number 2 meanwhile is left alone. If no file has it, the null device takes it, so that the next file that
is opened cannot get the number and the libraries' notes with it.
"""

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

if sys.platform != "win32":
    import fcntl

Filter = Callable[[bytes], bool]
"""Takes one line, with its line feed if it has one; True drops it."""

_DESCRIPTOR: Final = 2


class _Owner:
    """Who holds the descriptor at the moment, and what the holders since it was taken drop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._filters: list[Filter] = []
        self._held: BinaryIO | None = None
        self._original = -1
        if sys.platform != "win32":
            os.register_at_fork(
                before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._begin_in_child
            )

    @contextmanager
    def __call__(self, drops: Filter) -> Iterator[None]:
        """Hold what is written to descriptor 2 while inside; what no holder's filter drops comes out afterwards.

        Any number of threads may be inside at once. Lines come out when the last one leaves, also if a body raises.
        Only short steps run inside, since a process that died there would take the held lines with it.
        """
        with self._lock:
            if self._depth == 0:
                self._take()
            self._depth += 1
            if drops not in self._filters:
                self._filters.append(drops)
        try:
            yield
        finally:
            held: BinaryIO | None = None
            with self._lock:
                self._depth = max(self._depth - 1, 0)
                if self._depth == 0:
                    held, filters = self._give_back(), self._filters
            if held is not None:  # outside the lock, since a filter may log
                with held:
                    _pass_on(held, filters)

    def _take(self) -> None:
        self._filters = []
        if not occupy_stderr():
            return
        _flush()
        held = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the last holder)
        try:
            self._original = os.dup(_DESCRIPTOR)
            os.dup2(held.fileno(), _DESCRIPTOR)
        except OSError:
            held.close()
            raise
        self._held = held

    def _give_back(self) -> BinaryIO | None:
        held, self._held = self._held, None
        if held is not None:
            _flush()
            os.dup2(self._original, _DESCRIPTOR)
            os.close(self._original)
        return held

    def _begin_in_child(self) -> None:
        """After a fork: the other threads are gone, and what is held is the parent's to pass on."""
        if self._held is not None:
            os.dup2(self._original, _DESCRIPTOR)
            os.close(self._original)
            self._held = None  # its descriptor is closed with it; the file lives on in the parent
        self._depth = 0
        self._lock.release()


def occupy_stderr() -> bool:
    """Whether descriptor 2 is the process's stderr; where nothing has that number, the null device gets it."""
    try:
        os.fstat(_DESCRIPTOR)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        if null != _DESCRIPTOR:  # a lower number is free too
            os.dup2(null, _DESCRIPTOR)
            os.close(null)
        os.set_inheritable(_DESCRIPTOR, True)
        return False
    if sys.__stderr__ is None:  # Python found it closed at its start, so this is somebody's file
        return False
    # Closed later on, its number may have gone to a file that is being read
    return sys.platform == "win32" or fcntl.fcntl(_DESCRIPTOR, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def _flush() -> None:
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # its reader has gone away, or it is closed
            sys.stderr.flush()


def _pass_on(held: BinaryIO, filters: Sequence[Filter]) -> None:
    held.seek(0)
    kept = b"".join(line for line in held if not any(drops(line) for drops in filters))
    with suppress(OSError):  # nobody reads it any more
        while kept:
            kept = kept[os.write(_DESCRIPTOR, kept) :]


hold_stderr: Final = _Owner()
"""`with hold_stderr(drops):` see `_Owner.__call__`."""
