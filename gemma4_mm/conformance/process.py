"""A process that computes the stages of cases, under any interpreter: the reference's, or a peer's."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from gemma4_mm.conformance.records import Case, Stages
from gemma4_mm.errors import ExecutionError, InputError
from gemma4_mm.optional import require

ORACLE_DIRECTORY = Path(__file__).parent / "oracle"
"""Where `serve` and `given` stand, which a worker of one's own can import too: `sys.path.insert(0, …)`."""
_SHOWN_LINES = 6


class Refused(ValueError):  # noqa: N818 (a statement about the case, not an error of the program)
    """The process refuses a case; the message is its own."""


class CaseProcess:
    """A worker script, started once for any number of cases. A context manager; one thread at a time.

        with CaseProcess(python, script, arguments) as process:
            stages = process.stages(case)

    `start` and `finish` are the two halves of `stages`: between them the process computes while the caller does. The
    script answers as `oracle/serve.py` does.

    Args:
        python: the interpreter.
        script: the worker.
        arguments: of the script.
        hint: what an error about missing packages says to do.

    Raises:
        InputError: no such interpreter, or it lacks a package.
        ExecutionError: the script failed.

    Attributes:
        versions: of the packages and of Python, as the script tells them.
    """

    def __init__(self, python: str | Path, script: Path, arguments: Sequence[str] = (), *, hint: str = "") -> None:
        if shutil.which(str(python)) is None:
            raise InputError(f"{python} is no program; give the Python interpreter of a virtual environment")
        self._pending: Case | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="gemma4-mm-parity-")
        self._log = self._path("log").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(  # noqa: S603 (an interpreter that the user names)
            [str(python), "-W", "ignore", str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
        )
        try:
            hello = self._receive()
        except ExecutionError:
            self.close()
            raise
        if "unusable" in hello:
            self.close()
            raise InputError(f"{python} (Python {hello['python']}) cannot do this: {hello['unusable']}; {hint}")
        self.versions: Mapping[str, str] = hello["versions"]

    def stages(self, case: Case) -> Stages:
        """Compute the stages of a case.

        Raises:
            Refused: the process refuses the case.
            ExecutionError: it failed.
        """
        self.start(case)
        return self.finish()

    def start(self, case: Case) -> None:
        """Hand a case to the process, and return at once."""
        if self._pending is not None:
            raise ValueError(f"{self._pending.name} was started and not finished")
        self._pending = case
        require("safetensors.numpy").save_file(dict(case.inputs), self._path("inputs"))
        request = {
            "case": {"name": case.name, "kind": case.kind, "options": dict(case.options)},
            "inputs": str(self._path("inputs")),
            "stages": str(self._path("stages")),
        }
        with suppress(BrokenPipeError):  # `finish` says why
            _stream(self._process.stdin).write(json.dumps(request) + "\n")
            _stream(self._process.stdin).flush()

    def finish(self) -> Stages:
        """Wait for the stages of the case that was started; errors as of `stages`."""
        case, self._pending = self._pending, None
        answer = self._receive()
        if "refused" in answer:
            raise Refused(answer["refused"])
        if "failed" in answer:
            raise ExecutionError(f"the process failed at case {case.name if case else '?'}: {answer['failed']}")
        stages: Stages = require("safetensors.numpy").load_file(self._path("stages"))
        self._path("stages").unlink()
        return stages

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):  # of what was still to be written
                _stream(stream).close()
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _path(self, name: str) -> Path:
        return Path(self._folder.name) / name

    def _receive(self) -> dict[str, Any]:
        line = _stream(self._process.stdout).readline()
        if line:
            return cast("dict[str, Any]", json.loads(line))
        self._process.wait()
        self._log.seek(0)
        last = " | ".join(self._log.read().strip().splitlines()[-_SHOWN_LINES:])
        raise ExecutionError(f"the process ended with code {self._process.returncode}: {last or 'it said nothing'}")


def _stream(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise ExecutionError("the process has no pipe")
    return stream
