"""Keep the runtime's chatter off stderr without hiding what is worth reading."""

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOG: Final = logging.getLogger("gemma4_mm.coreai")
_CHATTER: Final = (b"ODIE [default]: Loading function ",)  # one line for each function, from native code
_STDERR_FD: Final = 2
_ONE_AT_A_TIME: Final = threading.Lock()  # the descriptor belongs to the whole process


@contextmanager
def chatter_to_log() -> Iterator[None]:
    """While inside, hold what is written to file descriptor 2; afterwards log the known chatter, pass on the rest.

    Native code writes past `sys.stderr`, hence the descriptor. Lines that are not known chatter reach the real stderr
    in full, also when the body raises. Only short steps run inside, since a process that died there would take the
    held lines with it.
    """
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as held:
        try:
            real = os.dup(_STDERR_FD)
        except OSError:  # no stderr at all, as under a windowed interpreter: there is nothing to keep clean
            yield
            return
        try:
            _flush()
            os.dup2(held.fileno(), _STDERR_FD)
            try:
                yield
            finally:
                _flush()
                os.dup2(real, _STDERR_FD)
                held.seek(0)
                _forward(held.read(), real)
        finally:
            os.close(real)


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()


def _forward(held: bytes, descriptor: int) -> None:
    for line in held.splitlines(keepends=True):
        if line.startswith(_CHATTER):
            _LOG.debug("%s", line.decode(errors="replace").rstrip())
        else:
            os.write(descriptor, line)
