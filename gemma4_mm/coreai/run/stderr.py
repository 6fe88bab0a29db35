"""Keep the runtime's chatter off stderr without hiding what is worth reading."""

import logging
from contextlib import AbstractContextManager
from typing import Final

from gemma4_mm.stderr import hold_stderr

_LOG: Final = logging.getLogger("gemma4_mm.coreai")
_CHATTER: Final = (b"ODIE [default]: Loading function ",)  # one line for each function, from native code


def chatter_to_log() -> AbstractContextManager[None]:
    """While inside, hold what is written to file descriptor 2; afterwards log the known chatter, pass on the rest.

    Lines that are not known chatter reach the real stderr in full, also when the body raises; see `gemma4_mm.stderr`.
    """
    return hold_stderr(_log_chatter)


def _log_chatter(line: bytes) -> bool:
    chatter = line.startswith(_CHATTER)
    if chatter:
        _LOG.debug("%s", line.decode(errors="replace").rstrip())
    return chatter
