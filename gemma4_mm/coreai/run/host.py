"""A loaded `.aimodel`, living on an event loop of its own thread.

The runtime's calls are coroutines. They run on one private loop, so that sync callers work inside a running loop
(notebooks, servers) too, and so that a cancelled caller cannot cancel a call that native code is computing: the
runtime reads the input arrays until it is done, whoever still waits.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar

from gemma4_mm.coreai.run.stderr import chatter_to_log
from gemma4_mm.errors import AssetError, ExecutionError, InputError
from gemma4_mm.optional import require

Result = TypeVar("Result")
_DELIVERY_S: Final = 10.0  # far beyond what a starved thread needs for one write
_SETTLE_S: Final = 0.5  # most that is waited for threads of which it cannot be told what they do
_QUIET_LOOKS: Final = 3


class AssetHost:
    """Owns the thread, the loop and the loaded asset; knows nothing of Gemma.

    Attributes:
        functions: loaded `InferenceFunction` objects by name.
    """

    def __init__(self) -> None:
        self.functions: Mapping[str, Any] = {}
        self._stack = AsyncExitStack()
        self._running: set[asyncio.Task[Any]] = set()
        self._gate = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="gemma4-mm-coreai", daemon=True)
        self._thread.start()

    def load(self, path: Path, names: Sequence[str]) -> "Future[None]":
        """Load those functions of the asset at `path` that are among `names`."""
        return self.submit(lambda: self._load(path, names))

    def submit(self, start: Callable[[], Coroutine[Any, Any, Result]]) -> "Future[Result]":
        """Run a coroutine on the loop. Its future may be abandoned, never cancelled: see `outcome`.

        Raises:
            InputError: the host is closed.
        """
        with self._gate:
            if self._closed:
                raise InputError("the Core AI runtime is closed; open it again, or keep it open while calls are made")
            return asyncio.run_coroutine_threadsafe(self._tracked(start()), self._loop)

    def close(self) -> None:
        """Wait for running calls, release the asset and end the thread; a second call does nothing."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            released = asyncio.run_coroutine_threadsafe(self._release(), self._loop)
        released.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        # An abandoned call may hold the last reference to its Runtime: then this runs on the loop, which cannot wait.
        if threading.current_thread() is not self._thread:
            self._thread.join()
            self._await_delivery()
            released.result()

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _await_delivery(self) -> None:
        """Wait until no native thread is inside the loop's wake-up call.

        The thread that delivers a result gives up the interpreter's lock while it writes to the loop's socket, so that
        the result can be used, and the process end, before it comes back. A native thread that asks a finished
        interpreter for its lock is made to unwind, at which the Swift runtime aborts the process.
        """
        until = time.monotonic() + _DELIVERY_S
        while any(_wakes(frame, self._loop) for frame in sys._current_frames().values()) and time.monotonic() < until:
            time.sleep(0.001)
        # What a delivery does after the wake-up call, such as letting go of its callback, shows in no frame.
        until, quiet = time.monotonic() + _SETTLE_S, 0
        while quiet < _QUIET_LOOKS and time.monotonic() < until:
            time.sleep(0.001)
            quiet = 0 if _native_thread_runs() else quiet + 1

    async def _tracked(self, call: Coroutine[Any, Any, Result]) -> Result:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine on a loop runs in a task)
        self._running.add(task)
        try:
            return await call
        finally:
            self._running.discard(task)

    async def _load(self, path: Path, names: Sequence[str]) -> None:
        authoring = require("coreai.authoring", extra="coreai")
        try:
            asset = authoring.AIModelAsset.load(path)
            model = await self._stack.enter_async_context(asset.executable())
            with chatter_to_log():
                self.functions = {name: model.load_function(name) for name in names if name in model.function_names}
        except (RuntimeError, OSError) as error:
            raise AssetError(
                f"the Core AI runtime cannot load {path}: {error}; convert or download it again"
            ) from error

    async def _release(self) -> None:
        if self._running:
            await asyncio.wait(self._running)
        self.functions = {}
        await self._stack.aclose()
        await self._loop.shutdown_default_executor()  # the loader compiles on a thread of it


def _wakes(frame: FrameType | None, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a thread, by its innermost frame, is inside `loop.call_soon_threadsafe`."""
    while frame is not None:
        if frame.f_code.co_name == "call_soon_threadsafe" and frame.f_locals.get("self") is loop:
            return True
        frame = frame.f_back
    return False


def _native_thread_runs() -> bool:
    """Whether a thread that Python did not start is running or about to, where the system tells (Linux)."""
    known = {str(thread.native_id) for thread in threading.enumerate()}
    for task in Path("/proc/self/task").glob("*"):
        with suppress(OSError):  # it has ended
            state = (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
            if state == "R" and task.name not in known:
                return True
    return False


async def outcome(future: "Future[Result]") -> Result:
    """Await a future of `AssetHost.submit` from any loop; cancelling the waiter leaves the call running."""
    waiter: Awaitable[Result] = asyncio.wrap_future(future)
    return await asyncio.shield(waiter)


async def execute(function: Any, inputs: Mapping[str, Any], states: Mapping[str, Any]) -> Mapping[str, Any]:
    """Call one function; inputs and states are numpy arrays and the runtime's own arrays.

    Raises:
        ExecutionError: the runtime refused the call.
    """
    ndarray = require("coreai.runtime", extra="coreai").NDArray
    tensors = {name: ndarray(value) for name, value in inputs.items()}  # held here until the call is over
    try:
        results: Mapping[str, Any] = await (function(tensors, state=dict(states)) if states else function(tensors))
    except RuntimeError as error:
        raise ExecutionError(
            f"the Core AI runtime refused {function.desc.name} after its inputs had passed every check here: {error}; "
            "the asset may be damaged or may have been exported with other bounds than its descriptors say"
        ) from error
    return results
