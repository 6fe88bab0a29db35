"""The four functions of a bundle on Apple's Core AI runtime: checked, typed, sync and async."""

import asyncio
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.coreai.bundle.asset import verify_asset
from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.bundle.schema import check_bundle
from gemma4_mm.coreai.bundle.specs import CONTRACT, FunctionSpec, TensorSpec
from gemma4_mm.coreai.run.checks import Bounds, prepare
from gemma4_mm.coreai.run.host import AssetHost, execute, outcome
from gemma4_mm.coreai.run.state import KVState, allocate
from gemma4_mm.errors import AssetError, InputError

FunctionName = Literal["main", "prefill_multimodal", "embed_vision", "embed_audio"]
Rows = Literal["last", "all"]
_DECODERS: Final = ("main", "prefill_multimodal")


class Runtime:
    """A bundle's functions, loaded. A context manager, sync (`with`) and async (`async with`).

    Shapes and element types come from the asset; inputs are converted to them (see `checks.prepare`) and every fault
    is an `InputError` before native code is called. Calls on different `KVState`s may run concurrently, from any
    thread or event loop.

        with Runtime.open("bundle") as runtime:
            embeds = runtime.run("embed_audio", {"input_features": frames})
            state = runtime.new_state()
            logits = runtime.run("main", {"input_ids": ids}, state=state)

    Attributes:
        bundle: what was opened.
        functions: what the asset offers of the four functions, read from its descriptors.
        vocabulary: token ids run from 0 to one below this.
        problems: where the asset departs from the contract, in words; a function with a problem cannot be run.
    """

    def __init__(self, host: AssetHost, *, bundle: Bundle) -> None:
        self.bundle = bundle
        self._host = host
        self._close = weakref.finalize(self, host.close)
        self.functions: Mapping[str, FunctionSpec] = {
            name: FunctionSpec.from_descriptor(function.desc, name=name) for name, function in host.functions.items()
        }
        self._problems = _contract_problems(self.functions)
        self.problems = tuple(problem for found in self._problems.values() for problem in found)
        self.vocabulary = _vocabulary(self.functions, declared=bundle.vocabulary)
        self._bounds = Bounds(vocabulary=self.vocabulary, position_table=bundle.constants.position_table)

    @classmethod
    def open(cls, bundle: Bundle | Path | str, *, verify: bool = True) -> Self:
        """Load the asset of a bundle; except with macOS's own framework this compiles it, a second for a small one.

        Args:
            bundle: a bundle, or the path of its directory.
            verify: compare the program with the SHA-256 that lies beside it. The runtime ends the process on a
                damaged program: leave it on unless the file was just checked.

        Raises:
            AssetError: the bundle is incomplete or damaged.
            MissingDependencyError: `coreai-core` is not installed.
        """
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
        check_bundle(bundle)
        verify_asset(bundle.asset_path, compare_hash=verify)
        host = AssetHost()
        try:
            host.load(bundle.asset_path, tuple(CONTRACT)).result()
            return cls(host, bundle=bundle)
        except BaseException:
            host.close()
            raise

    @classmethod
    async def open_async(cls, bundle: Bundle | Path | str, *, verify: bool = True) -> Self:
        """As `open`, without blocking the caller's loop."""
        return await asyncio.to_thread(cls.open, bundle, verify=verify)

    def close(self) -> None:
        """Wait for running calls and release the asset; also done when the object is collected, and at exit."""
        self._close()

    @property
    def has_open_context(self) -> bool:
        """Whether `new_state` must be told how many rows the states shall have."""
        return any(None in spec.shape for name in _DECODERS for spec in self._states(name).values())

    def new_state(self, *, rows: int | None = None) -> KVState:
        """Allocate the KV memory of one sequence: zeros of the asset's shapes and element types.

        Args:
            rows: rows of the states, only where the asset leaves that axis open.
        """
        for name in _DECODERS:
            if states := self._states(name):
                return allocate(states, rows=rows, owner=self)
        raise AssetError("the asset has no usable main or prefill_multimodal, hence no KV states; use another bundle")

    def run(
        self,
        function: FunctionName,
        inputs: Mapping[str, Any],
        *,
        state: KVState | None = None,
        rows: Rows = "last",
        padding: int = 0,
    ) -> NDArray[np.float32]:
        """Run one function.

        Args:
            function: one of the four.
            inputs: by the asset's names, arrays or nested sequences. Batch axes may be left out. `position_ids` may
                be left out: they are the ramp over what the state holds and the new tokens.
            state: for `main` and `prefill_multimodal`, which append to it.
            rows: logits of the last token or of all new ones; embeddings always come for all.
            padding: how many of the last `input_ids` only fill up a compiled length: they are computed, but neither
                kept in the state nor among the logits.

        Returns:
            A float32 copy without the batch axis: logits `(vocabulary,)`, or `(q, vocabulary)` for all rows;
            embeddings `(tokens, hidden)`.

        Raises:
            InputError: a fault of the arguments; says which, what it was, what it must be.
            AssetError: the asset does not offer the function as the contract has it.
            ExecutionError: the runtime refused although every check had passed.
        """
        return self.submit(function, inputs, state=state, rows=rows, padding=padding).result()

    async def run_async(
        self,
        function: FunctionName,
        inputs: Mapping[str, Any],
        *,
        state: KVState | None = None,
        rows: Rows = "last",
        padding: int = 0,
    ) -> NDArray[np.float32]:
        """As `run`. Cancelling the caller leaves the call running, and its state in use until it is done."""
        return await outcome(self.submit(function, inputs, state=state, rows=rows, padding=padding))

    def submit(
        self,
        function: str,
        inputs: Mapping[str, Any],
        *,
        state: KVState | None = None,
        rows: str = "last",
        padding: int = 0,
    ) -> "Future[NDArray[np.float32]]":
        """As `run`, without waiting for the result, which nobody may cancel: see `host.outcome`."""
        contract = CONTRACT.get(function)
        if contract is None:
            raise InputError(f"there is no function {function!r}; the functions are {', '.join(CONTRACT)}")
        if self._problems[function]:
            raise AssetError(f"{function} cannot be run: {'; '.join(self._problems[function])}; use another bundle")
        if not isinstance(state, KVState) if contract.stateful else state is not None:
            wanted = "needs the KVState of its sequence, from new_state()" if contract.stateful else "takes no state"
            raise InputError(f"{function} {wanted}; state is {type(state).__name__}")
        if rows not in {"last", "all"}:
            raise InputError(f"rows is {rows!r}; it must be 'last' or 'all'")
        if state is None:
            return self._host.submit(lambda: self._embed(function, inputs))
        return self._host.submit(lambda: self._decode(function, inputs, state, rows, padding))

    def _states(self, name: str) -> Mapping[str, TensorSpec]:
        return {} if self._problems[name] else self.functions[name].states

    async def _embed(self, function: str, inputs: Mapping[str, Any]) -> NDArray[np.float32]:
        tensors = prepare(self.functions[function], inputs, bounds=self._bounds)
        outputs = await execute(self._host.functions[function], tensors, {})
        return np.asarray(outputs[CONTRACT[function].output].numpy()[0]).astype(np.float32)

    async def _decode(
        self, function: str, inputs: Mapping[str, Any], state: KVState, rows: str, padding: int
    ) -> NDArray[np.float32]:
        with state.claim(self) as memory:  # before the checks: they depend on what the state holds
            tensors = prepare(self.functions[function], inputs, bounds=self._bounds, window=state.window)
            queries = tensors["input_ids"].shape[-1]
            if isinstance(padding, bool) or not isinstance(padding, int) or not 0 <= padding < queries:
                raise InputError(f"padding is {padding!r} of {queries} input_ids; it must be from 0 to {queries - 1}")
            outputs = await execute(self._host.functions[function], tensors, memory)
            state.length += queries - padding
        logits: NDArray[Any] = outputs[CONTRACT[function].output].numpy()
        logits = logits.reshape(-1, logits.shape[-1])
        if padding:
            if len(logits) != queries:
                raise AssetError(
                    f"{function} returns {len(logits)} rows of logits for {queries} tokens, so that padding hides the "
                    "last one's; run it without padding"
                )
            logits = logits[: queries - padding]
        return (logits[-1] if rows == "last" else logits).astype(np.float32)  # a copy: the rest is freed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)


def _contract_problems(functions: Mapping[str, FunctionSpec]) -> dict[str, tuple[str, ...]]:
    found = {
        name: contract.problems(functions[name]) if name in functions else (f"the asset has no function {name}",)
        for name, contract in CONTRACT.items()
    }
    first, second = (functions.get(name) for name in _DECODERS)
    if first and second and dict(first.states) != dict(second.states):
        found["prefill_multimodal"] += ("prefill_multimodal has other KV states than main",)
    return found


def _vocabulary(functions: Mapping[str, FunctionSpec], *, declared: int | None) -> int:
    """The width of the logits; a declared smaller vocabulary does not narrow it."""
    for name in _DECODERS:
        logits = functions[name].outputs.get("logits") if name in functions else None
        if logits is not None and logits.shape and logits.shape[-1] is not None:
            return logits.shape[-1]
    if declared is None:
        raise AssetError(
            "neither the logits of the asset nor language.vocab_size of metadata.json give the vocabulary; add the key"
        )
    return declared
