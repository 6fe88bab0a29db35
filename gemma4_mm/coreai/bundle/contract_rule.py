"""The shape of one rule of Apple's contract, about files or about functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.bundle.specs import FunctionSpec

# `all text engines` are CoreAISequentialEngine and CoreAIPipelinedEngine.
Engine = Literal["bundle reader", "all text engines", "VLM engine", "stop-token reader"]
Failure = Literal["refused", "advice"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule saw: in words, and whether that is what it wants."""

    found: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class FileRule:
    """A rule about metadata and files.

    Attributes:
        name: unique, in kebab case.
        what: the part of the bundle.
        wanted: what must be there, in words.
        engine: which of Apple's readers needs it.
        look: returns what is there.
        failure: what happens where it does not hold, see `contract.Check`.
    """

    name: str
    what: str
    wanted: str
    engine: Engine
    look: Callable[[Bundle], Finding]
    failure: Failure = "refused"


@dataclass(frozen=True, kw_only=True)
class AssetRule:
    """A rule about the functions of the model; attributes as of `FileRule`."""

    name: str
    what: str
    wanted: str
    engine: Engine
    look: Callable[[Bundle, Mapping[str, FunctionSpec]], Finding]
    failure: Failure = "refused"


def section(bundle: Bundle, *path: str) -> Any:
    """A value of the metadata by its path, None where there is none."""
    value: Any = bundle.metadata
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def is_count(value: Any) -> bool:
    """Whether a JSON value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
