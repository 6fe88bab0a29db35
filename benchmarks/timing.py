"""Timing of several sides of one work, interleaved in one process: what else the machine does meets all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LEAST_RUNS = 9


@dataclass(frozen=True, kw_only=True)
class Side:
    """One way to do the work.

    Attributes:
        call: does it once.
        torch_threads: torch's intra-op threads meanwhile; None for a side that has no part in torch.
    """

    call: Callable[[], object]
    torch_threads: int | None = None


def shortest_ms(sides: Mapping[str, Side], *, runs: int) -> dict[str, float]:
    """Milliseconds of the shortest of `runs` runs of each side, at least 9: noise can only lengthen a run."""
    import torch

    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(max(runs, LEAST_RUNS)):
        for name, side in sides.items():
            if side.torch_threads is not None:
                torch.set_num_threads(side.torch_threads)
            times[name].append(time_ms(side.call))
    return {name: min(values) for name, values in times.items()}


def time_ms(call: Callable[[], object]) -> float:
    """Milliseconds of one call; its result is freed before the clock stops, as a caller's is in a loop."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3
