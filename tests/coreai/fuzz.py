"""Random wrong calls of the live runtime, as a program of its own, so that a dying process is seen.

Prints one line for each call: `typed`, `passed` (a mutation happened to be harmless), or the name of any other error.
"""

import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.errors import Gemma4MMError
from tests.coreai.drive import VOCABULARY

DTYPES: list[Any] = [
    *("bool", "int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64", "complex64"),
    *("object", "U3", ml_dtypes.bfloat16, ">i4", ">f4", "datetime64[s]"),
]
VALUES: list[Any] = [None, "text", b"bytes", 7, -7, 1e308, float("nan"), [], [[]], {}, object(), [1, [2]], 1j, True]


def valid_call(rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    q = int(rng.integers(2, 6))
    ids = rng.integers(0, VOCABULARY, q)
    return (
        ("main", {"input_ids": ids, "position_ids": np.arange(q)}),
        (
            "prefill_multimodal",
            {
                "input_ids": ids,
                "position_ids": np.arange(q),
                "mm_embeds": rng.standard_normal((q, 64), np.float32),
                "mm_mask": rng.random(q) < 0.5,
                "mask_sliding": np.tri(q, dtype=np.bool_),
                "mask_global": np.tri(q, dtype=np.bool_),
            },
        ),
        (
            "embed_vision",
            {
                "pixel_values": rng.random((q, 6912), np.float32),
                "image_position_ids": rng.integers(-1, 1120, (q, 2)),
            },
        ),
        ("embed_audio", {"input_features": rng.standard_normal((q, 640), np.float32)}),
    )[int(rng.integers(4))]


def resize(array: np.ndarray[Any, Any], rng: np.random.Generator) -> Any:
    """Grow, shrink or empty one axis."""
    axis = int(rng.integers(array.ndim))
    shape = list(array.shape)
    shape[axis] = max(0, shape[axis] + int(rng.choice([-1, 1, -shape[axis], 3])))
    return np.resize(array, shape)


def rerank(array: np.ndarray[Any, Any], rng: np.random.Generator) -> Any:
    """Stack a second copy, or drop the last axis."""
    return np.stack([array, array]) if rng.random() < 0.5 else array[..., 0]


def retype(array: np.ndarray[Any, Any], rng: np.random.Generator) -> Any:
    dtype = np.dtype(DTYPES[int(rng.integers(len(DTYPES)))])
    return array.astype(np.int64).astype(dtype) if dtype.kind == "M" else array.astype(dtype)


def disturb(array: np.ndarray[Any, Any], rng: np.random.Generator) -> Any:
    """Put one extreme value somewhere."""
    changed = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
    extremes = (
        [np.nan, np.inf, 1e300, -1e300] if array.dtype.kind == "f" else [-1, -2, VOCABULARY, 1120, 2**31, -(2**62)]
    )
    changed[tuple(int(rng.integers(size)) for size in changed.shape)] = rng.choice(extremes)
    return changed


MUTATIONS: list[Callable[[np.ndarray[Any, Any], np.random.Generator], Any]] = [resize, rerank, retype, disturb]


def mutate(inputs: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    changed = dict(inputs)
    name = str(rng.choice(list(changed)))
    choice = int(rng.integers(len(MUTATIONS) + 3))
    if choice < len(MUTATIONS):
        changed[name] = MUTATIONS[choice](changed[name], rng)
    elif choice == len(MUTATIONS):
        del changed[name]
    elif choice == len(MUTATIONS) + 1:
        changed[f"{name}_"] = changed[name]
    else:
        changed[name] = VALUES[int(rng.integers(len(VALUES)))]
    return changed


def main(path: str, n_calls: int) -> None:
    rng = np.random.default_rng(4)
    with Runtime.open(path) as runtime:
        state = runtime.new_state()
        for _ in range(n_calls):
            function, inputs = valid_call(rng)
            inputs = mutate(inputs, rng)
            used: Any = state if runtime.functions[function].states else None
            if rng.random() < 0.05:
                used = [None, state, "state", {}][int(rng.integers(4))]
            state.rewind(0)
            call: Callable[..., Any] = runtime.run
            try:
                call(function, inputs, state=used)
                outcome = "passed"
            except Gemma4MMError:
                outcome = "typed"
            except BaseException as error:  # noqa: BLE001 (the test reports whatever it is)
                outcome = f"{type(error).__name__}: {error}"
            print(outcome, flush=True)  # noqa: T201
        logits = runtime.run("main", {"input_ids": [2, 300]}, state=runtime.new_state())
        print("alive" if np.isfinite(logits).all() else "broken", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
