"""The KV memory of one sequence: allocated by the caller, mutated by the runtime, never shared."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from gemma4_mm.coreai.bundle.specs import TensorSpec
from gemma4_mm.coreai.run.checks import Window
from gemma4_mm.errors import AssetError, InputError
from gemma4_mm.optional import require

_MIN_ROWS: Final = 3  # for one call of one token: positions end one below the rows, new tokens one below these


class KVState:
    """Keys and values of one token sequence, for `Runtime.main` and `Runtime.prefill_multimodal`.

    Made by `Runtime.new_state`; every session, and every sequence in it, takes its own. One call at a time may use a
    state: a second, concurrent one is an error. A call that fails leaves `length` as it was, and with it the prefix.

    Attributes:
        length: tokens that it holds; the next call's first token is at this position.
        capacity: tokens that it takes: one below the rows of the state tensors, as bundles are exported.
    """

    def __init__(self, tensors: Mapping[str, Any], *, capacity: int, owner: object) -> None:
        self.length = 0
        self.capacity = capacity
        self._tensors = dict(tensors)
        self._owner = owner
        self._lock = threading.Lock()

    def rewind(self, length: int) -> None:
        """Forget every token from position `length` on, to continue from a shared prefix.

        Raises:
            InputError: `length` is negative or beyond what the state holds, or a call is using the state.
        """
        if isinstance(length, bool) or not isinstance(length, int | np.integer) or not 0 <= length <= self.length:
            raise InputError(
                f"cannot rewind to {length!r} tokens; the state holds {self.length}; give 0 to {self.length}"
            )
        with self.claim(self._owner):
            self.length = int(length)

    @contextmanager
    def claim(self, owner: object) -> Iterator[Mapping[str, Any]]:
        """Lend the runtime's own arrays to one call of `owner`.

        Raises:
            InputError: another call is using the state, or another runtime allocated it.
        """
        if owner is not self._owner:
            raise InputError("the KV state was made by another Runtime; call new_state() of the one that you run")
        if not self._lock.acquire(blocking=False):
            raise InputError(
                "the KV state is in use by another call; give each concurrent sequence its own new_state()"
            )
        try:
            yield self._tensors
        finally:
            self._lock.release()

    @property
    def window(self) -> Window:
        """What the next call may write."""
        return Window(past=self.length, capacity=self.capacity)


def allocate(specs: Mapping[str, TensorSpec], *, rows: int | None, owner: object) -> KVState:
    """Allocate zeros of every state's shape and element type; `rows` fills the axis that the asset leaves open.

    Raises:
        InputError: the asset fixes its context and `rows` differs, or leaves it open and `rows` is missing.
        AssetError: a state with more than one open axis.
    """
    ndarray = require("coreai.runtime", extra="coreai").NDArray
    shapes = {name: _shape(spec, rows=rows) for name, spec in specs.items()}
    capacity = min(shapes[name][context_axis(spec)] for name, spec in specs.items()) - 1
    tensors = {name: ndarray(np.zeros(shapes[name], spec.dtype)) for name, spec in specs.items()}
    return KVState(tensors, capacity=capacity, owner=owner)


def context_axis(spec: TensorSpec) -> int:
    """The axis that counts positions: the open one, else the last but one, as in `(layers, 1, heads, rows, width)`.

    Raises:
        AssetError: more than one open axis, or fewer than two axes.
    """
    open_axes = [axis for axis, size in enumerate(spec.shape) if size is None]
    if len(open_axes) > 1 or len(spec.shape) < 2:
        raise AssetError(f"the KV state {spec.name} is {spec}; its context axis cannot be told; export one open axis")
    return open_axes[0] if open_axes else len(spec.shape) - 2


def _shape(spec: TensorSpec, *, rows: int | None) -> tuple[int, ...]:
    axis = context_axis(spec)
    fixed = spec.shape[axis]
    if fixed is None and rows is None:
        raise InputError(f"the asset leaves the context of {spec.name} open ({spec}); say how many rows it shall have")
    if rows is not None and (rows < _MIN_ROWS or fixed not in {None, rows}):
        raise InputError(f"the asset's {spec.name} is {spec}; it cannot have {rows} rows")
    return tuple(size if size is not None else rows or 0 for size in spec.shape)
