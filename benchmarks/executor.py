"""What the executor adds to a decoded token, equality first: `python -m benchmarks.executor`.

A session decodes greedily. After each of its tokens the same token is decoded by calling the runtime's `main` with
arrays that were prepared before, and taking the best logit: two sequences of one process, interleaved token by token,
so that the median of the pairs says little of what else the machine does. The executor's own time is what a token takes
outside the runtime's call, the shortest of all; it must not grow with the history.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.coreai.run.session import GenerationOptions, Session
from gemma4_mm.inputs import ModelInputs, Segment
from gemma4_mm.optional import require

N_TOKENS: Final = 48
HISTORIES: Final = (16, 900)  # of 1023 tokens
_MOST_OVERHEAD: Final = 0.05
_MOST_GROWTH: Final = 1.25


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line per history; return 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="replies after each history")
    parser.add_argument("--bundle", type=Path, help="a tiny bundle; made on the spot if it is left out")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        bundle = options.bundle or Path(directory) / "bundle"
        if options.bundle is None:
            from gemma4_mm.coreai.convert.tiny import build_tiny_bundle

            build_tiny_bundle(bundle)
        with Runtime.open(bundle) as runtime:
            early, late = (measure(runtime, history, runs=options.runs) for history in HISTORIES)
    passed = [_report(times, history) for times, history in zip((early, late), HISTORIES, strict=True)]
    growth = min(late.own_ms) / min(early.own_ms)
    print(f"the executor's own time, late over early: {growth:.2f}× (at most {_MOST_GROWTH:.2f}×)")
    return int(not all(passed) or growth > _MOST_GROWTH)


@dataclass(kw_only=True)
class Times:
    """Milliseconds of each decoded token.

    Attributes:
        executor_ms: from logits to logits in a session.
        inside_ms: that part of it which is the runtime's own call.
        prepared_ms: the runtime's function with prepared arrays, and the best of its logits.
    """

    executor_ms: list[float] = field(default_factory=list)
    inside_ms: list[float] = field(default_factory=list)
    prepared_ms: list[float] = field(default_factory=list)

    @property
    def own_ms(self) -> list[float]:
        """What the executor does itself, token by token."""
        return [whole - inside for whole, inside in zip(self.executor_ms, self.inside_ms, strict=True)]


def measure(runtime: Runtime, history: int, *, runs: int) -> Times:
    """Decode after `history` tokens on both sides; stops if their tokens differ."""
    prompt, session = text_prompt(history), Session(runtime)
    options = GenerationOptions(max_tokens=N_TOKENS, stop_ids=(), suppressed_ids=())
    ids = session.generate(prompt, options).ids
    times = Times()
    functions = dict(runtime._host.functions)
    runtime._host.functions = {**functions, "main": Timed(functions["main"])}
    try:
        for _ in range(runs):
            session.reset()
            other = Prepared(runtime, functions["main"], prompt["input_ids"], ids)
            turns = Turns(other, runtime._host.functions["main"], times)
            again = session.generate(prompt, GenerationOptions(**{**vars(options), "logits_processor": turns})).ids
            if not ids == again == other.chosen:
                raise SystemExit(f"after {history} tokens the replies differ; run the tests")
    finally:
        runtime._host.functions = functions
    return times


def text_prompt(n_tokens: int) -> ModelInputs:
    """Encoded text of ordinary tokens."""
    ids = np.random.default_rng(0).integers(300, 450, (1, n_tokens))
    tensors = {"input_ids": ids, "attention_mask": np.ones_like(ids), "mm_token_type_ids": np.zeros_like(ids)}
    return ModelInputs(tensors, segments=[Segment(kind="text", row=0, start=0, stop=n_tokens)], profile="benchmark")


class Timed:
    """A loaded function that notes how long its latest call took."""

    def __init__(self, function: Any) -> None:
        self.desc = function.desc
        self.latest_ms = 0.0
        self._function = function

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        start = time.perf_counter()
        outputs = await self._function(*args, **kwargs)
        self.latest_ms = 1e3 * (time.perf_counter() - start)
        return outputs


class Prepared:
    """The same reply by the runtime's function alone; every array exists before its call is timed."""

    def __init__(self, runtime: Runtime, function: Any, prompt: NDArray[np.int64], ids: list[int]) -> None:
        self.chosen: list[int] = []
        self._host, self._function = runtime._host, function
        self._array = require("coreai.runtime", extra="coreai").NDArray
        self._states = {
            name: self._array(np.zeros([int(size or 0) for size in spec.shape], spec.dtype))
            for name, spec in runtime.functions["main"].states.items()
        }
        n_tokens = prompt.shape[1]
        ramp = np.arange(n_tokens + len(ids), dtype=np.int32)[None]
        self._calls = [(prompt.astype(np.int32), ramp[:, :n_tokens])]
        self._calls += [(np.array([[id_]], np.int32), ramp[:, : n_tokens + i + 1]) for i, id_ in enumerate(ids[:-1])]

    def step(self) -> float:
        """Decode the next token; returns milliseconds."""
        return self._host.submit(self._step).result()

    async def _step(self) -> float:
        input_ids, position_ids = self._calls[len(self.chosen)]
        start = time.perf_counter()
        inputs = {"input_ids": self._array(input_ids), "position_ids": self._array(position_ids)}
        outputs = await self._function(inputs, state=self._states)
        self.chosen.append(int(outputs["logits"].numpy()[0, -1].argmax()))
        return 1e3 * (time.perf_counter() - start)


class Turns:
    """A logits processor that changes nothing: it times the session's token, then lets the other side do the same."""

    def __init__(self, other: Prepared, inside: Timed, times: Times) -> None:
        self._other, self._inside, self._times = other, inside, times
        self._started: float | None = None

    def __call__(self, ids: Sequence[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ARG002
        """Take the time at which the logits are there; the prompt's own are not counted."""
        now = time.perf_counter()
        other_ms = self._other.step()
        if self._started is not None:
            self._times.executor_ms.append(1e3 * (now - self._started))
            self._times.inside_ms.append(self._inside.latest_ms)
            self._times.prepared_ms.append(other_ms)
        self._started = time.perf_counter()
        return logits


def _report(times: Times, history: int) -> bool:
    pairs = [ours / theirs - 1 for ours, theirs in zip(times.executor_ms, times.prepared_ms, strict=True)]
    overhead, shortest = statistics.median(pairs), min(times.executor_ms) / min(times.prepared_ms) - 1
    print(
        f"a token after {history:3}: executor {min(times.executor_ms):.2f} ms, prepared arrays "
        f"{min(times.prepared_ms):.2f} ms; overhead, median of {len(pairs)} pairs {100 * overhead:+.1f} %, at most "
        f"{100 * _MOST_OVERHEAD:.0f} % (of the shortest {100 * shortest:+.1f} %); its own "
        f"time {min(times.own_ms):.3f} ms"
    )
    return overhead <= _MOST_OVERHEAD


if __name__ == "__main__":
    sys.exit(main())
