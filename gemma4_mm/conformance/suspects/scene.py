"""What a suspicion is judged by: the case, both sides' stages, and how well a computed array agrees."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.records import Case, CaseKind, Stages, Suspect

_LEAST_EXPLAINED: Final = 0.9  # of the values that differ; two float resizes differ from each other in some


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A case with the stages of both sides, and what was computed of them once already."""

    case: Case
    expected: Stages
    actual: Stages
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returns, computed at the first call for this key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


@dataclass(frozen=True, kw_only=True)
class Theory:
    """One known mistake in one stage, or in several that one function makes.

    Attributes:
        name: short and stable.
        words: what it is, to follow "this looks like".
        kinds: the kinds of cases that it can happen in.
        stages: the stages that it can show in.
        compute: makes the array that the mistake gives for a stage; None where it cannot happen.
    """

    name: str
    words: str
    kinds: tuple[CaseKind, ...]
    stages: tuple[str, ...]
    compute: Callable[[Scene, str], NDArray[Any] | None]

    def applies(self, case: Case, stage: str) -> bool:
        """Whether the mistake can show there."""
        return case.kind in self.kinds and stage in self.stages


def judge(theory: Theory, scene: Scene, stage: str) -> Suspect | None:
    """The suspect, if what it computes agrees with the subject and not with the reference."""
    try:
        computed = theory.compute(scene, stage)
    except (KeyError, IndexError, ValueError):
        return None  # a stage that it starts from is not there, or of no form that it could start from
    expected, actual = scene.expected[stage], scene.actual[stage]
    if computed is None or computed.shape != actual.shape:
        return None
    agrees = same_bits(computed, actual)
    if expected.shape != actual.shape:
        explained = float(agrees.all())  # any row of tokens that is one short agrees in most of its values
    else:
        differs = ~same_bits(expected, actual)
        n_different = int(differs.sum())
        explained = float((agrees & differs).sum()) / n_different
        if int((~agrees & ~differs).sum()) > (1 - _LEAST_EXPLAINED) * n_different:
            return None  # it would differ where the subject does not
    if explained < _LEAST_EXPLAINED:
        return None
    return Suspect(name=theory.name, words=theory.words, explained=explained)


def same_bits(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    """Where two arrays of one shape hold the same bits (whole numbers: the same values)."""
    if first.dtype == second.dtype == np.float32:
        return np.asarray(np.ascontiguousarray(first).view(np.uint32) == np.ascontiguousarray(second).view(np.uint32))
    return np.asarray(first == second)
