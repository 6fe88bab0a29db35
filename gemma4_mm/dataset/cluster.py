"""Shards over a Ray cluster, through Ray Data: each of its actors loads a processor once and writes whole shards.

Only plans and reports travel; requests, media and shards stay on the file system that all nodes share.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from gemma4_mm import errors
from gemma4_mm.dataset.requests import ShardPlan
from gemma4_mm.dataset.worker import Job, ShardEncoder, ShardReport
from gemma4_mm.optional import require

_OBJECT_STORE_BYTES: Final = 128 << 20  # plans and reports are small
_CHATTER: Final = ("enable_progress_bars", "print_on_execution_start")


def encode_on_ray(
    job: Job, plans: Sequence[ShardPlan], *, n_workers: int | None, address: str | None
) -> Iterator[ShardReport]:
    """Encode shards; reports come as shards are finished, in no order.

    Args:
        job: what all workers need to know.
        plans: the shards.
        n_workers: actors, one CPU each; None for one per CPU of the cluster.
        address: of a running cluster, as `ray.init` takes it; None for the one that this process is connected to, or
            else one on this machine, for this run alone, which listens on the loopback interface.

    Raises:
        Gemma4MMError: what ends the whole run; see `ShardEncoder.encode`.
        MissingDependencyError: Ray is not installed.
    """
    ray, data = require("ray", extra="ray"), require("ray.data", extra="ray")
    with _connected(ray, n_workers=n_workers, address=address), _quiet(data.DataContext.get_current()):
        n_cpus = int(ray.cluster_resources().get("CPU", 1))
        n_actors = min(n_workers or n_cpus, n_cpus, len(plans))
        rows = data.from_items([asdict(plan) for plan in plans], override_num_blocks=len(plans)).map(
            _ShardActor,
            fn_constructor_args=(job,),
            compute=data.ActorPoolStrategy(size=n_actors),
            num_cpus=1,
        )
        try:
            for row in rows.iter_rows():
                yield _read_row(row)
        except ray.exceptions.RayError as error:
            raise errors.Gemma4MMError(
                f"a Ray worker failed: {error}; run again to go on, or without Ray to find the request that ends it"
            ) from error


class _ShardActor:
    """What Ray calls once per shard. Rows hold plain values alone, and what ends the run is one of them."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._encoder: ShardEncoder | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._encoder is None:
                self._encoder = ShardEncoder(self._job)
            report = self._encoder.encode(ShardPlan(**row))
        except Exception as error:  # noqa: BLE001 (the driver raises it)
            return {"number": row["number"], "n_requests": 0, "n_failed": 0, "error": str(error), "fatal": _name(error)}
        return {
            "number": report.number,
            "n_requests": report.n_requests,
            "n_failed": report.n_failed,
            "error": report.first_error or "",
            "fatal": "",
        }


def _read_row(row: dict[str, Any]) -> ShardReport:
    if row["fatal"]:
        raise getattr(errors, row["fatal"])(row["error"])
    return ShardReport(
        number=row["number"], n_requests=row["n_requests"], n_failed=row["n_failed"], first_error=row["error"] or None
    )


def _name(error: Exception) -> str:
    """Which of our errors it becomes in the driver."""
    return type(error).__name__ if isinstance(error, errors.Gemma4MMError) else errors.Gemma4MMError.__name__


@contextmanager
def _quiet(context: Any) -> Iterator[None]:
    """Keep Ray Data from writing to stderr, where our own progress is."""
    logger = logging.getLogger("ray.data")
    level, before = logger.level, {name: getattr(context, name) for name in _CHATTER}
    logger.setLevel(logging.ERROR)
    for name in _CHATTER:
        setattr(context, name, False)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)


@contextmanager
def _connected(ray: Any, *, n_workers: int | None, address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        ray.init(address=address, **quiet)
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=n_workers,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            object_store_memory=_OBJECT_STORE_BYTES,
            **quiet,
        )
    try:
        yield
    finally:
        ray.shutdown()
