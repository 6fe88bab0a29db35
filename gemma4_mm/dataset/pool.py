"""Shards over processes on this machine: one shard at a time each, and a process that dies is replaced.

A decoder that crashes takes its process with it. The request that it was working on is tried once more; if that one
kills a second process, it counts as failed, and the rest of its shard is encoded without it.
"""

import os
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from typing import Any, Final

from gemma4_mm.dataset.requests import ShardPlan
from gemma4_mm.dataset.worker import Job, ShardEncoder, ShardReport
from gemma4_mm.errors import Gemma4MMError

_TRIES: Final = 2
_MOST_STARTS: Final = 3  # deaths of one worker before its first request
# Each process computes on one thread; the variables are read when the libraries are loaded
_ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


@dataclass(frozen=True, kw_only=True)
class Started:
    """A request is being encoded.

    Attributes:
        index: of the request.
    """

    index: int


def encode_locally(job: Job, plans: Iterable[ShardPlan], *, n_workers: int) -> Iterator[Started | ShardReport]:
    """Encode shards; reports come as shards are finished, in no order.

    Raises:
        Gemma4MMError: what ends the whole run; see `ShardEncoder.encode`.
    """
    waiting = deque(plans)
    workers = [_Worker(job) for _ in range(min(n_workers, len(waiting)))]
    try:
        for worker in workers:
            worker.give(waiting.popleft())
        while busy := {worker.connection: worker for worker in workers if worker.plan is not None}:
            for ready in connection.wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                message = worker.receive()
                if message is None:
                    continue
                yield message
                if isinstance(message, ShardReport) and waiting:
                    worker.give(waiting.popleft())
    finally:
        for worker in workers:
            worker.stop()


@dataclass(kw_only=True)
class _Task:
    plan: ShardPlan
    lost: Mapping[int, str]


@dataclass
class _Worker:
    """One process and what it is doing."""

    job: Job
    plan: ShardPlan | None = None
    _index: int | None = None  # the request that it is working on
    _deaths: Counter[int | None] = field(default_factory=Counter)
    _lost: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start()

    def give(self, plan: ShardPlan) -> None:
        self.plan = plan
        self._send()

    def receive(self) -> Started | ShardReport | None:
        """What the process says; None where it died and another took over."""
        try:
            message: Any = self.connection.recv()
        except (EOFError, OSError):
            self._replace()
            return None
        if isinstance(message, Exception):
            raise message
        if isinstance(message, ShardReport):
            self.plan = self._index = None
        else:
            self._index = message.index
        assert isinstance(message, Started | ShardReport)  # noqa: S101 (for the type checker)
        return message

    def stop(self) -> None:
        self.connection.close()  # an idle process ends by itself
        if self.plan is not None:
            self._process.kill()  # a busy one leaves a partial file, which the next run removes
        self._process.join()

    def _start(self) -> None:
        context = get_context("spawn")  # fork would copy the threads' locks of whoever calls
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self.job), daemon=True)
        with _one_thread_each():
            self._process.start()
        theirs.close()

    def _send(self) -> None:
        assert self.plan is not None  # noqa: S101
        with suppress(OSError):  # it died; the next `receive` finds that out
            self.connection.send(_Task(plan=self.plan, lost=self._lost))

    def _replace(self) -> None:
        self._process.join()
        code = self._process.exitcode or 0
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._deaths[self._index] += 1
        if self._index is None and self._deaths[None] >= _MOST_STARTS:
            raise Gemma4MMError(
                f"a worker process ended {_MOST_STARTS} times before its first request ({cause}); run with --workers 1 "
                "and look for what is on stderr"
            )
        if self._index is not None and self._deaths[self._index] >= _TRIES:
            self._lost[self._index] = f"the worker process died twice while it encoded this request ({cause})"
        self._index = None
        self._start()
        self._send()


def _work(parent: "connection.Connection[Any, Any]", job: Job) -> None:
    """The process itself: shards as they come, until the parent is gone or says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process

    def say(message: object) -> None:
        try:
            parent.send(message)
        except OSError:
            raise SystemExit(1) from None  # the parent is gone

    try:
        encoder = ShardEncoder(job)
        while True:
            try:
                task: _Task = parent.recv()
            except (EOFError, OSError):
                return
            say(encoder.encode(task.plan, lost=task.lost, started=lambda index: say(Started(index=index))))
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
