"""What opening and writing share: how media may be read and computed, and errors that name the item."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gemma4_mm.cache import MediaCache
from gemma4_mm.errors import InputError
from gemma4_mm.execution import DEFAULT_EXECUTION, Execution
from gemma4_mm.media.access import MediaAccess


@dataclass(frozen=True, kw_only=True)
class Access(MediaAccess):
    """How media may be read, and how they are computed and kept.

    Attributes:
        execution: kernel and threads.
        cache: of encoded media; None for none.
    """

    execution: Execution = DEFAULT_EXECUTION
    cache: MediaCache | None = None


@contextmanager
def naming(label: str) -> Iterator[None]:
    """Say which item an error of the arithmetic below is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{label}: {error}") from error
