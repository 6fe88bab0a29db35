"""A whole run: requests to shards, from where the last run stopped, over processes or over a cluster."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

from gemma4_mm.assets.find import find_or_fetch_assets
from gemma4_mm.assets.pinned import PinnedAssets, files_of
from gemma4_mm.cache import MediaCache
from gemma4_mm.dataset.index import IndexWriter
from gemma4_mm.dataset.manifest import Manifest
from gemma4_mm.dataset.pool import encode_locally
from gemma4_mm.dataset.requests import RequestFile, ShardPlan, scan_requests
from gemma4_mm.dataset.shard import PARTIAL_GLOB, is_finished
from gemma4_mm.dataset.worker import Job, ShardReport
from gemma4_mm.dataset.workers import Started
from gemma4_mm.errors import InputError
from gemma4_mm.execution import DEFAULT_EXECUTION, Execution
from gemma4_mm.limits import Limits
from gemma4_mm.optional import require
from gemma4_mm.releases import DEFAULT_PROFILE, Profile

SHARD_SIZE: Final = 32
_DEFAULTS: Final = {"add_generation_prompt": True}


Progress = Callable[[int, int, int], None]
"""Told how many requests are done, how many of them failed, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """What a run did.

    Attributes:
        n_requests: in the file.
        n_failed: without tensors; `errors.jsonl` says why.
        n_shards: in the folder.
        n_resumed: shards that an earlier run had finished.
    """

    n_requests: int
    n_failed: int
    n_shards: int
    n_resumed: int


def run_batch(
    requests: str | PathLike[str],
    folder: str | PathLike[str],
    *,
    model: str | PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    shard_size: int = SHARD_SIZE,
    profile: Profile = DEFAULT_PROFILE,
    limits: Limits | None = None,
    allow_network: bool = False,
    cache: MediaCache | None = None,
    execution: Execution = DEFAULT_EXECUTION,
    ray: bool = False,
    ray_address: str | None = None,
    verify: bool = False,
    fail_fast: bool = False,
    progress: Progress | None = None,
) -> BatchReport:
    """Encode a file of requests into sharded safetensors.

    The files depend on the requests, the media and the settings alone: not on the number of workers, not on how often
    the run was killed and started again. A request that fails is a line in `errors.jsonl`. Under Ray, all nodes must
    see `requests`, its media, `folder` and the tokenizer at the same paths.

    Worker processes import the caller's main module, as those of `multiprocessing` do: call this under
    `if __name__ == "__main__":` in a script.

    Args:
        requests: a JSON Lines file; see `dataset.requests`. Media paths are relative to its folder.
        folder: the output; made where it is missing. A run of the same requests and settings goes on there.
        model: as `Processor.from_pretrained` takes it.
        options: keyword arguments of `apply_chat_template` for all requests, such as `{"max_soft_tokens": 140}`.
        workers: processes, or Ray actors; None for one per core, or per CPU of the cluster.
        shard_size: requests of a shard.
        profile: the reference behaviour.
        limits: bounds on each media item.
        allow_network: whether media may be named by http(s) URL.
        cache: of encoded media; changes no output.
        execution: kernel and threads of each worker; changes no output.
        ray: run over the Ray cluster that this process is connected to, or else over one on this machine.
        ray_address: run over the Ray cluster with this address; "auto" for the one that this machine belongs to.
        verify: read every byte of shards that are there already, and make damaged ones anew.
        fail_fast: stop after the first shard with a failed request.
        progress: told about each finished request.

    Raises:
        InputError: unreadable requests, a folder of another run or in use, or, with `fail_fast`, a failed request.
        AssetError: the tokenizer or template is missing.
        MissingDependencyError: a decoder that a request needs, or Ray, is not installed.
    """
    if shard_size < 1 or (workers is not None and workers < 1):
        raise InputError(f"workers is {workers} and shard_size {shard_size}; both must be at least 1")
    plan = scan_requests(Path(requests), shard_size=shard_size)
    out = Path(folder).absolute()
    settings = {"profile": profile, "limits": limits or Limits(), "allow_network": allow_network}
    defaults = {**_DEFAULTS, **(options or {})}
    pinned = PinnedAssets.pin(find_or_fetch_assets(model))
    manifest = Manifest.of(plan, shard_size=shard_size, settings=_described(settings, defaults, pinned))
    job = Job(
        requests=plan.path,
        folder=out,
        pinned=pinned,
        settings={**settings, "cache": cache, "execution": execution},
        defaults=defaults,
    )
    with _claimed(out, manifest):
        finished = {shard.number for shard in plan.shards if is_finished(out, shard, verify=verify)}
        missing = [shard for shard in plan.shards if shard.number not in finished]
        resumed = len(finished)
        events = _encode(job, missing, workers=workers, ray=ray, address=ray_address)
        with closing(events), IndexWriter(out, n_shards=len(plan.shards)) as index:
            index.advance(finished)
            _follow(events, index, finished, plan=plan, fail_fast=fail_fast, progress=progress)
        return BatchReport(
            n_requests=plan.n_requests, n_failed=index.n_failed, n_shards=len(plan.shards), n_resumed=resumed
        )


def _follow(
    events: Iterator[Started | ShardReport],
    index: IndexWriter,
    finished: set[int],
    *,
    plan: RequestFile,
    fail_fast: bool,
    progress: Progress | None,
) -> None:
    n_done = sum(plan.shards[number].n_requests for number in finished)
    n_failed = index.n_failed
    n_shown = n_done
    for event in events:
        if isinstance(event, ShardReport):
            finished.add(event.number)
            index.advance(finished)
            n_done += event.n_requests
            n_failed += event.n_failed
            if fail_fast and event.first_error is not None:
                raise InputError(f"{event.first_error}; mend the request, or leave --fail-fast out to go on without it")
        # Requests begun are nearly done; a worker that was replaced begins some again, which must not count twice
        n_shown = max(n_done, min(n_shown + isinstance(event, Started), plan.n_requests))
        if progress is not None:
            progress(n_shown, n_failed, plan.n_requests)


def _encode(
    job: Job, plans: list[ShardPlan], *, workers: int | None, ray: bool, address: str | None
) -> Generator[Started | ShardReport, None, None]:
    if plans and (ray or address is not None):
        from gemma4_mm.dataset.cluster import encode_on_ray

        yield from encode_on_ray(job, plans, n_workers=workers, address=address)
    elif plans:
        yield from encode_locally(job, plans, n_workers=workers or _usable_cores())


def _described(settings: Mapping[str, Any], defaults: Mapping[str, Any], pinned: PinnedAssets) -> dict[str, Any]:
    """The settings as JSON, with the content of the model's files instead of their place."""
    files = [path.name for path in files_of(pinned.assets)]
    return {
        "profile": asdict(settings["profile"]),
        "limits": asdict(settings["limits"]),
        "allow_network": settings["allow_network"],
        "options": dict(defaults),
        "files": dict(zip(files, pinned.sha256, strict=True)),
    }


@contextmanager
def _claimed(folder: Path, manifest: Manifest) -> Iterator[None]:
    """Hold the folder for this run, after a check that it is empty or holds the same run."""
    filelock = require("filelock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(f"another run is writing to {folder}; wait for it, or choose another folder") from None
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error}; choose a writable folder") from error
    with lock:
        try:
            before = Manifest.read(folder)
            if before is not None:
                before.check_same(manifest, folder=folder)
            elif any(not path.name.startswith(".") for path in folder.iterdir()):
                raise InputError(f"{folder} holds files that are not of a run; give a new or empty folder")
            _remove_partials(folder)  # of a run that was killed
            manifest.write(folder)
            try:
                yield
            finally:
                _remove_partials(folder)  # of workers that were
        finally:
            lock.release()


def _remove_partials(folder: Path) -> None:
    for partial in folder.glob(PARTIAL_GLOB):
        partial.unlink(missing_ok=True)


def _usable_cores() -> int:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
