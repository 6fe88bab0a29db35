"""Shards over processes on this machine: one shard at a time each, and a process that dies is replaced.

A decoder that crashes takes its process with it. The request that it was working on is tried once more; if that one
kills a second process, it counts as failed, and the rest of its shard is encoded without it.
"""

import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any, Final

from gemma4_mm.dataset.requests import ShardPlan
from gemma4_mm.dataset.worker import Job, ShardReport
from gemma4_mm.dataset.workers import CAN_FORK, Started, Task, WorkerFactory
from gemma4_mm.errors import Gemma4MMError

_TRIES: Final = 2
_MOST_STARTS: Final = 3  # deaths of one worker before its first request


def encode_locally(
    job: Job, plans: Iterable[ShardPlan], *, n_workers: int, fork: bool = CAN_FORK
) -> Iterator[Started | ShardReport]:
    """Encode shards; reports come as shards are finished, in no order.

    Args:
        job: what all workers need to know.
        plans: the shards.
        n_workers: processes.
        fork: whether they are forked from one that has loaded the processor; see `workers`.

    Raises:
        Gemma4MMError: what ends the whole run; see `ShardEncoder.encode`.
    """
    waiting = deque(plans)
    factory = WorkerFactory(job, fork=fork)
    workers: list[_Worker] = []
    try:
        for _ in range(min(n_workers, len(waiting))):
            workers.append(_Worker(factory))
            workers[-1].give(waiting.popleft())
        while busy := {worker.connection: worker for worker in workers if worker.plan is not None}:
            for ready in wait(list(busy)):
                worker = busy[ready]
                message = worker.receive()
                if message is None:
                    continue
                yield message
                if isinstance(message, ShardReport) and waiting:
                    worker.give(waiting.popleft())
    finally:
        for worker in workers:
            worker.stop()
        factory.close()


class _Worker:
    """One process after the other, and what it is doing."""

    def __init__(self, factory: WorkerFactory) -> None:
        self.plan: ShardPlan | None = None
        self._factory = factory
        self._index: int | None = None  # the request that it is working on
        self._deaths: Counter[int | None] = Counter()
        self._lost: dict[int, str] = {}
        self._process = factory.start()

    @property
    def connection(self) -> Any:
        return self._process.connection

    def give(self, plan: ShardPlan) -> None:
        self.plan = plan
        self._send()

    def receive(self) -> Started | ShardReport | None:
        """What the process says; None where it died and another took over."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self._replace()
            return None
        if isinstance(message, ShardReport):
            self.plan = self._index = None
            return message
        if isinstance(message, Started):
            self._index = message.index
            return message
        raise message

    def stop(self) -> None:
        """End the process; a busy one leaves a partial file, which the run removes."""
        self._process.end(kill=self.plan is not None)

    def _send(self) -> None:
        assert self.plan is not None  # noqa: S101
        with suppress(OSError):  # it died; the next `receive` finds that out
            self.connection.send(Task(plan=self.plan, lost=self._lost))

    def _replace(self) -> None:
        code = self._process.end(kill=False)
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
        self._process = self._factory.start()
        self._send()
