"""How the arithmetic runs: which kernel, and on how many threads. Neither changes a bit of any result."""

import importlib.util
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, TypeVar, get_args

from gemma4_mm.errors import InputError
from gemma4_mm.optional import require

Kernel = Literal["numpy", "numba", "auto"]
"""What resizes: numpy's matrix products, the compiled integer kernel of the extra `fast`, or whichever is the quicker
as far as can be told; see `core.vision.kernels.kernel`."""

_MAX_THREADS: Final = 256
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How images and frames are computed. The tensors are the same under every choice.

    Attributes:
        kernel: see `Kernel`. `numpy` is the reference. `numba` is compiled at its first use on a machine and loaded at
            the first in a process.
        threads: most threads that one call keeps busy, the calling one included: images and frames side by side, and
            the rows of a single image.

    Raises:
        InputError: an unknown kernel, or a number of threads out of range.
        MissingDependencyError: `numba` was asked for and is not installed.
    """

    kernel: Kernel = "numpy"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.kernel not in get_args(Kernel):
            raise InputError(f"kernel is {self.kernel!r}; it must be one of {', '.join(get_args(Kernel))}")
        if isinstance(self.threads, bool) or not isinstance(self.threads, int) or not 1 <= self.threads <= _MAX_THREADS:
            raise InputError(
                f"threads is {self.threads!r}; it must be a whole number of 1 to {_MAX_THREADS}; processor cores are a "
                "good choice"
            )
        if self.kernel == "numba" and importlib.util.find_spec("numba") is None:
            require("numba", extra="fast")  # says how to install it

    def spread(self, work: Callable[[ItemT], object], items: Iterable[ItemT]) -> None:
        """Call `work` on every item, on up to `threads` threads, and return when all are done.

        Items are taken in order, one at a time and only when a thread is free for them: a generator is never run ahead,
        and never by two threads at once. `work` may itself spread: whatever threads are idle then help.

        Raises:
            Exception: what `work` raised on the first of the items that failed, or what `items` raised. No further
                item is begun.
        """
        if self.threads == 1:
            for item in items:
                work(item)
            return
        queue = _Queue(items)
        helpers = [_pool(self.threads - 1).submit(queue.drain, work) for _ in range(self.threads - 1)]
        queue.drain(work)
        # Helpers that have not begun are not waited for: threads that wait for one another's helpers would never end.
        wait([helper for helper in helpers if not helper.cancel()])
        queue.raise_first()


DEFAULT_EXECUTION: Final = Execution()


class _Queue(Iterator[tuple[int, ItemT]]):
    """Items that several threads take in turn, and the first error that one of them met."""

    def __init__(self, items: Iterable[ItemT]) -> None:
        self._items = enumerate(items)
        self._lock = threading.Lock()
        self._failed_at = math.inf
        self._error: BaseException | None = None

    def __next__(self) -> tuple[int, ItemT]:
        with self._lock:
            if self._error is not None:
                raise StopIteration
            try:
                return next(self._items)
            except StopIteration:
                raise
            except BaseException as error:
                self._error = error
                raise StopIteration from error

    def drain(self, work: Callable[[ItemT], object]) -> None:
        """Work on items until none is left or one has failed."""
        for place, item in self:
            try:
                work(item)
            except BaseException as error:  # noqa: BLE001 (raised again on the calling thread)
                self._fail(place, error)

    def raise_first(self) -> None:
        """Raise the error of the earliest item, if any failed."""
        if self._error is not None:
            raise self._error

    def _fail(self, place: int, error: BaseException) -> None:
        with self._lock:
            if self._error is None or place < self._failed_at:
                self._failed_at, self._error = place, error


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads that are started once: starting one takes as long as resizing a small image."""
    return ThreadPoolExecutor(workers, thread_name_prefix="gemma4-mm")


def _forget_pools() -> None:
    """A forked child has the pool's memory without its threads, and would wait for them forever."""
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)
