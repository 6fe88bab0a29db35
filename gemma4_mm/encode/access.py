"""What the encoders of all kinds share: how media may be read, what they give back, and errors that name the item."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from gemma4_mm.cache import MediaCache
from gemma4_mm.errors import InputError
from gemma4_mm.execution import DEFAULT_EXECUTION, Execution
from gemma4_mm.limits import Limits
from gemma4_mm.releases import Profile

PlanT = TypeVar("PlanT")


@dataclass(frozen=True, kw_only=True)
class Access:
    """How media may be read and computed: reference behaviour, bounds, the network, kernel, threads, and cache."""

    profile: Profile
    limits: Limits
    allow_network: bool
    execution: Execution = DEFAULT_EXECUTION
    cache: MediaCache | None = None

    def arguments(self, label: str) -> dict[str, Any]:
        """Keyword arguments that every loader of `media` takes; `label` is what its errors call the item."""
        return {
            "limits": self.limits,
            "allow_network": self.allow_network,
            "label": label,
        }


@dataclass(frozen=True, kw_only=True)
class Encoded(Generic[PlanT]):
    """All media of one kind, encoded.

    Attributes:
        tensors: under Hugging Face's names; empty where there are no media of the kind.
        plans: one per item, what `measure_…` says of it.
        valid_rows: tensor rows of each item without padding.
    """

    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    plans: tuple[PlanT, ...] = ()
    valid_rows: list[int] = field(default_factory=list)


@contextmanager
def naming(label: str) -> Iterator[None]:
    """Say which item an error of the arithmetic below is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{label}: {error}") from error
