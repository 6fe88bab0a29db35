"""`gemma4-mm batch`: a file of requests to sharded safetensors."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gemma4_mm.cache import MediaCache
from gemma4_mm.cli.console import progress_bar
from gemma4_mm.cli.request import (
    DtypeOption,
    JsonOption,
    KernelOption,
    MaxSoftTokensOption,
    ModelOption,
    NumFramesOption,
    ThinkingOption,
    ThreadsOption,
    choose_execution,
    ready_assets,
)
from gemma4_mm.dataset.run import SHARD_SIZE, run_batch

_GIB = 1 << 30


def batch(
    requests: Annotated[
        Path, typer.Argument(help='JSON Lines, one request a line: {"id": …, "messages": […], "options": {…}}.')
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the shards; a run that was stopped there goes on.")],
    workers: Annotated[int | None, typer.Option(help="Processes. [default: one per core]")] = None,
    shard_size: Annotated[int, typer.Option(help="Requests of a shard.")] = SHARD_SIZE,
    model: ModelOption = None,
    max_soft_tokens: MaxSoftTokensOption = None,
    num_frames: NumFramesOption = None,
    thinking: ThinkingOption = False,
    dtype: DtypeOption = None,
    kernel: KernelOption = "numpy",
    threads: ThreadsOption = 1,
    generation_prompt: Annotated[
        bool, typer.Option("--generation-prompt/--no-generation-prompt", help="Open the model's turn at the end.")
    ] = True,
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="Let requests name media by http(s) URL.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="Keep encoded media in this folder.")] = None,
    cache_gb: Annotated[float, typer.Option(help="Most that the cache may hold, in GiB.")] = 10.0,
    ray: Annotated[bool, typer.Option("--ray", help="Run over Ray on this machine.")] = False,
    ray_address: Annotated[
        str | None, typer.Option(help="Run over the Ray cluster with this address; 'auto' for this machine's.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte of finished shards, and make damaged ones anew.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop after the first shard with a failed request.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Encode many conversations into sharded safetensors, with an index and a file of errors.

    Media paths are relative to the folder of REQUESTS. A request that fails is a line in OUT/errors.jsonl and stops
    nothing. The files do not depend on the number of workers, nor on how often the run was stopped.
    """
    options: dict[str, Any] = {"add_generation_prompt": generation_prompt, "enable_thinking": thinking}
    options |= {
        name: value
        for name, value in {"max_soft_tokens": max_soft_tokens, "num_frames": num_frames, "dtype": dtype}.items()
        if value is not None
    }
    execution = choose_execution(kernel, threads)
    ready_assets(model)
    started = time.perf_counter()
    try:
        with progress_bar("requests") as progress:
            report = run_batch(
                requests,
                out,
                model=model,
                options=options,
                workers=workers,
                shard_size=shard_size,
                allow_network=allow_network,
                execution=execution,
                cache=None if cache is None else MediaCache(cache, max_disk_bytes=int(cache_gb * _GIB)),
                ray=ray,
                ray_address=ray_address,
                verify=verify,
                fail_fast=fail_fast,
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo(f"gemma4-mm: stopped; the same command goes on in {out}", err=True)
        raise typer.Exit(130) from None
    seconds = time.perf_counter() - started
    if as_json:
        typer.echo(json.dumps({**asdict(report), "seconds": round(seconds, 3)}))
        return
    resumed = f", {report.n_resumed} of them from an earlier run" if report.n_resumed else ""
    failed = f"; {report.n_failed} failed, see {out / 'errors.jsonl'}" if report.n_failed else ""
    typer.echo(f"{report.n_requests} requests in {report.n_shards} shards{resumed} in {out}, {seconds:.1f} s{failed}")
