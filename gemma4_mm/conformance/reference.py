"""Hugging Face's processor as the reference, in a process under any interpreter: no torch in this one, any release."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from gemma4_mm.conformance.records import Case, Stages
from gemma4_mm.errors import ExecutionError, InputError
from gemma4_mm.optional import require
from gemma4_mm.prompt.assets import find_assets

_WORKER = Path(__file__).parent / "oracle" / "worker.py"
_SHOWN_LINES = 6


class Refused(Exception):  # noqa: N818 (a statement about the case, not an error of the program)
    """The reference refuses a case; the message is its own."""


class Reference:
    """The oracle's process, started once for any number of cases. A context manager; one thread at a time.

        with Reference() as reference:
            stages = reference.stages(case)

    `start` and `finish` are the two halves of `stages`: between them the process computes while the caller does.

    Args:
        python: the interpreter, which must have torch, torchvision, transformers, Pillow and safetensors; None for
            this one.
        tokenizer: directory of `tokenizer.json` and `chat_template.jinja`; None for the published files in the cache.

    Raises:
        InputError: no such interpreter, or it lacks a package.
        AssetError: there is no tokenizer.

    Attributes:
        versions: of the packages, of Python, and the CPU capability that torch chose.
    """

    def __init__(self, *, python: str | Path | None = None, tokenizer: Path | None = None) -> None:
        self._python = str(python or sys.executable)
        assets = find_assets(tokenizer)
        self._folder = tempfile.TemporaryDirectory(prefix="gemma4-mm-parity-")
        self._log = (Path(self._folder.name) / "log").open("w+", encoding="utf-8", errors="replace")
        self._pending: Case | None = None
        if shutil.which(self._python) is None:
            self._close_files()
            raise InputError(f"--python {self._python} is no program; give the interpreter of a virtual environment")
        self._process = subprocess.Popen(  # noqa: S603 (an interpreter that the user names)
            [self._python, "-W", "ignore", str(_WORKER), str(assets.tokenizer.parent)],
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
            raise InputError(
                f"{self._python} (Python {hello['python']}) cannot run the reference: {hello['unusable']}; install "
                "it there with: pip install 'gemma4-mm[parity]', or name another interpreter with --python"
            )
        self.versions: Mapping[str, str] = hello["versions"]

    @property
    def name(self) -> str:
        """What was compared with, e.g. `transformers 5.24.0`."""
        return f"transformers {self.versions['transformers']}"

    def stages(self, case: Case) -> Stages:
        """Compute the stages of a case.

        Raises:
            Refused: the reference raises an error of its own.
            ExecutionError: the process failed.
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
        try:
            _stream(self._process.stdin).write(json.dumps(request) + "\n")
            _stream(self._process.stdin).flush()
        except BrokenPipeError:
            pass  # `finish` says why

    def finish(self) -> Stages:
        """Wait for the stages of the case that was started; errors as of `stages`."""
        case, self._pending = self._pending, None
        answer = self._receive()
        if "refused" in answer:
            raise Refused(answer["refused"])
        if "failed" in answer:
            raise ExecutionError(
                f"{self.name} failed at case {case.name if case else '?'}, which its processor would not refuse: "
                f"{answer['failed']}"
            )
        stages: Stages = require("safetensors.numpy").load_file(self._path("stages"))
        self._path("stages").unlink()
        return stages

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.kill()
        self._process.wait()
        self._close_files()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _path(self, name: str) -> Path:
        return Path(self._folder.name) / f"{name}.safetensors"

    def _close_files(self) -> None:
        self._log.close()
        self._folder.cleanup()

    def _receive(self) -> dict[str, Any]:
        line = _stream(self._process.stdout).readline()
        if line:
            return cast("dict[str, Any]", json.loads(line))
        self._process.wait()
        self._log.seek(0)
        last = " | ".join(self._log.read().strip().splitlines()[-_SHOWN_LINES:])
        raise ExecutionError(
            f"the reference's process ended with code {self._process.returncode}: {last or 'it said nothing'}"
        )


def _stream(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise ExecutionError("the reference's process has no pipe")
    return stream
