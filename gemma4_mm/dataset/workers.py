"""Where worker processes come from: one process loads the processor and forks them, so that all share its memory.

The tokenizer is most of what a process loads: 0.7 s and 300 MB, once instead of once per worker. The process that forks
is a fresh one with a single thread, not the caller's. Where forking is not safe (not on Linux), each worker is spawned
and loads for itself.
"""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final, Protocol

from gemma4_mm.dataset.requests import ShardPlan
from gemma4_mm.dataset.worker import Job, ShardEncoder
from gemma4_mm.errors import Gemma4MMError

# Each process computes on one thread; the variables are read when the libraries are loaded
_ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
CAN_FORK: Final = sys.platform == "linux"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One shard to encode, without the requests that are lost; see `ShardEncoder.encode`."""

    plan: ShardPlan
    lost: dict[int, str]


@dataclass(frozen=True, kw_only=True)
class Started:
    """A request is being encoded.

    Attributes:
        index: of the request.
        pid: of the process that does it.
    """

    index: int
    pid: int


class WorkerProcess(Protocol):
    """A process that takes a `Task` over its connection and answers with `Started`, `ShardReport`, or an error."""

    connection: "Connection[Any, Any]"

    def end(self, *, kill: bool) -> int:
        """Close the connection, which ends an idle process, or kill it; wait for it and return its exit code."""
        ...


class WorkerFactory:
    """Starts worker processes.

    Args:
        job: what they are for.
        fork: whether one process loads and forks all others.
    """

    def __init__(self, job: Job, *, fork: bool = CAN_FORK) -> None:
        self._job = job
        self._foreman = _Foreman(job) if fork else None

    def start(self) -> WorkerProcess:
        """Start a process.

        Raises:
            Gemma4MMError: it cannot load the processor.
        """
        return _Spawned(self._job) if self._foreman is None else self._foreman.fork()

    def close(self) -> None:
        """End the process that forks, after all others have ended."""
        if self._foreman is not None:
            self._foreman.close()


class _Spawned:
    """A process that loads for itself."""

    def __init__(self, job: Job) -> None:
        self.connection, self._process = _spawn(_load_and_work, job)

    def end(self, *, kill: bool) -> int:
        self.connection.close()
        if kill:
            self._process.kill()
        self._process.join()
        return int(self._process.exitcode or 0)


class _Forked:
    """A process that shares what the foreman loaded."""

    def __init__(self, foreman: "_Foreman", ours: "Connection[Any, Any]", pid: int) -> None:
        self.connection = ours
        self._foreman, self._pid = foreman, pid

    def end(self, *, kill: bool) -> int:
        self.connection.close()
        if kill:
            os.kill(self._pid, signal.SIGKILL)  # the number is its own until the foreman has waited for it
        return int(self._foreman.ask(self._pid))


class _Foreman:
    """The process that loads and forks, seen from the caller's."""

    def __init__(self, job: Job) -> None:
        self._connection, self._process = _spawn(_load_and_fork, job)

    def fork(self) -> _Forked:
        from multiprocessing.reduction import send_handle

        ours, theirs = get_context("spawn").Pipe()
        with suppress(OSError):  # it died; `ask` finds that out
            self._connection.send(None)
            send_handle(self._connection, theirs.fileno(), self._process.pid)
        theirs.close()
        return _Forked(self, ours, self._hear())

    def ask(self, pid: int) -> int:
        """Wait for a process that was forked; returns its exit code."""
        with suppress(OSError):
            self._connection.send(pid)
        return self._hear()

    def close(self) -> None:
        self._connection.close()
        self._process.join()

    def _hear(self) -> int:
        try:
            answer: Any = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise Gemma4MMError(
                f"the process that starts the workers ended with exit code {self._process.exitcode}; run again to go on"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return int(answer)


def _spawn(target: Any, job: Job) -> tuple["Connection[Any, Any]", Any]:
    context = get_context("spawn")  # a fork would copy the threads' locks of whoever calls
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, job), daemon=True)
    with _one_thread_each():
        process.start()
    theirs.close()
    return ours, process


def _load_and_fork(parent: "Connection[Any, Any]", job: Job) -> None:
    """The foreman: forks and waits, as asked, until the parent is gone."""
    from multiprocessing.reduction import recv_handle

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends all others
    try:
        encoder = ShardEncoder(job)
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        parent.send(error)
        return
    gc.freeze()  # what is shared is not written to by the collector
    with suppress(EOFError, OSError):
        while True:
            pid = parent.recv()
            if pid is not None:
                parent.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                continue
            handle = recv_handle(parent)
            pid = os.fork()
            if pid == 0:
                parent.close()
                _work_and_exit(Connection(handle), encoder)
            os.close(handle)
            parent.send(pid)


def _work_and_exit(parent: "Connection[Any, Any]", encoder: ShardEncoder) -> None:
    """A forked process ends here: nothing of the foreman's is run at its end."""
    code = 1
    try:
        _work(parent, encoder)
        code = 0
    finally:
        os._exit(code)


def _load_and_work(parent: "Connection[Any, Any]", job: Job) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        encoder = ShardEncoder(job)
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        parent.send(error)
        return
    _work(parent, encoder)


def _work(parent: "Connection[Any, Any]", encoder: ShardEncoder) -> None:
    """Shards as they come, until the parent is gone or closes the connection."""
    pid = os.getpid()

    def say(message: object) -> None:
        try:
            parent.send(message)
        except OSError:
            raise SystemExit(1) from None  # the parent is gone

    try:
        while True:
            try:
                task: Task = parent.recv()
            except (EOFError, OSError):
                return
            say(encoder.encode(task.plan, lost=task.lost, started=lambda index: say(Started(index=index, pid=pid))))
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        say(error)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
