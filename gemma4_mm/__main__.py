"""`python -m gemma4_mm` and the `gemma4-mm` command."""

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

from gemma4_mm.errors import MissingDependencyError
from gemma4_mm.optional import require


def main() -> None:
    """Run the command line; says how to install it where the `cli` extra is missing."""
    try:
        require("typer", extra="cli")
        require("rich", extra="cli")
    except MissingDependencyError as error:
        sys.exit(f"gemma4-mm: {error}")
    from gemma4_mm.cli.app import run

    code = run()
    if "coreai" in sys.modules:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End the process without taking the interpreter down.

    A native thread of the Core AI runtime may come back from its last delivery late. One that asks a finished
    interpreter for its lock is made to unwind, at which the Swift runtime aborts the process.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a reader that has gone away
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
