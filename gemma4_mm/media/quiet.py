"""Keep libraries' warnings off the user's terminal; what they announce is said by our own errors instead.

Both means are process-wide, so their uses are counted: the first thread to enter switches them on, the last to leave
switches them off.
"""

import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Final

from gemma4_mm.stderr import hold_stderr

_NOTES: Final = re.compile(
    rb"\[src/libmpg123/|Note: |Warning: |\s*$"  # mpg123
    rb"|(_?[A-Z]\w+|tempfile\.tif): .+\.$"  # libtiff: its function, or what Pillow calls the file, and a sentence
)


class _Shared:
    """One process-wide context, entered by any number of threads at once.

    Plain `warnings.catch_warnings` saves and restores the process's filters, so two overlapping uses restore them in
    the wrong order and leave a filter behind.
    """

    def __init__(self, context: Callable[[], AbstractContextManager[None]]) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._depth = 0
        self._entered = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._depth == 0:
                self._entered.enter_context(self._context())
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    self._entered.close()


@contextmanager
def _without_pillow_warnings() -> Iterator[None]:
    logger, handler = logging.getLogger("PIL"), logging.NullHandler()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        logger.addHandler(handler)  # or else its errors go to stderr where the application set up no logging
        try:
            yield
        finally:
            logger.removeHandler(handler)


ignore_pillow_warnings: Final = _Shared(_without_pillow_warnings)
"""Drop warnings raised by Pillow's own modules: decompression bombs, broken EXIF, odd TIFF tags."""


def ignore_decoder_notes() -> AbstractContextManager[None]:
    """Drop what mpg123 (MP3) and libtiff write on damaged files: straight to file descriptor 2.

    What anything else writes there meanwhile is held back, and passed on when the last thread leaves; see
    `gemma4_mm.stderr`.
    """
    return hold_stderr(_is_note)


def _is_note(line: bytes) -> bool:
    return _NOTES.match(line) is not None
