"""Stage by stage, bit by bit: what differs, how much, where first, and what it looks like."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.crops import crop_around
from gemma4_mm.conformance.forms import explain_extra, explain_shape, explain_transposed
from gemma4_mm.conformance.formulas import find_plan_fault
from gemma4_mm.conformance.places import describe_place, describe_value
from gemma4_mm.conformance.records import OUTCOME, STAGES, Case, StageDifference, StageResult, Stages, Suspect
from gemma4_mm.conformance.suspects import NO_NEW_MISTAKE, Scene, find_suspects
from gemma4_mm.core.attention.kinds import token_kinds

_MOST_UNITS: Final = 4096  # beyond, units in the last place tell less than the difference itself
_EXACT_BINS: Final = 2  # distances 1 and 2 have bins of their own; the others double


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one side made of a case.

    Attributes:
        stages: its arrays; empty where it refused or failed.
        refused: its error message where it refuses the case.
        failed: what went wrong where it neither refused nor finished.
        formulas: names of the stages that come from `formulas` and not from the reference's own code.
    """

    stages: Stages = field(default_factory=dict)
    refused: str | None = None
    failed: str | None = None
    formulas: frozenset[str] = frozenset()


def compare_case(
    case: Case,
    expected: Outcome,
    actual: Outcome,
    *,
    partial: bool = False,
    likely: Sequence[str] = (),
    search: Callable[[str], bool] = lambda _stage: True,
) -> tuple[StageResult, ...]:
    """Compare all stages of a case, in their order.

    Args:
        case: the case.
        expected: the reference's.
        actual: the subject's.
        partial: whether the subject may leave out stages; it may then leave out a case that the reference refuses, too.
        likely: names of suspects to try first.
        search: asked for each stage that differs: whether all suspects are tried, or the likely ones only.
    """
    if expected.refused is not None or actual.refused is not None or actual.failed is not None:
        return (_compare_outcomes(case, expected, actual, partial=partial),)
    scene = Scene(case=case, expected=expected.stages, actual=actual.stages)
    known = STAGES[case.kind]
    given = {*expected.stages, *actual.stages}
    names = [*(name for name in known if name in given), *sorted(given.difference(known))]
    return tuple(
        _compare_stage(scene, name, is_formula=name in expected.formulas, likely=likely, search=search)
        for name in names
    )


def _compare_outcomes(case: Case, expected: Outcome, actual: Outcome, *, partial: bool) -> StageResult:
    def result(status: Any, message: str = "") -> StageResult:
        return StageResult(
            case=case.name,
            kind=case.kind,
            stage=OUTCOME,
            status=status,
            n_values=1,
            message=message and f"case {case.name}: {message}",
        )

    if actual.failed is not None:
        return result("error", f"the subject failed: {actual.failed}")
    if expected.refused is None:
        return result("error", f"the subject refuses it ({actual.refused}), the reference does not")
    if actual.refused is not None:
        return result("equal")
    if partial and not actual.stages:
        return result("missing", f"the subject gives nothing; the reference refuses it ({expected.refused})")
    return result("error", f"the subject does not refuse it, the reference does ({expected.refused})")


def _compare_stage(
    scene: Scene, stage: str, *, is_formula: bool, likely: Sequence[str], search: Callable[[str], bool]
) -> StageResult:
    case = scene.case
    expected, actual = scene.expected.get(stage), scene.actual.get(stage)
    place = f"case {case.name}, stage {stage}"
    common: dict[str, Any] = {"case": case.name, "kind": case.kind, "stage": stage}
    common["oracle"] = "formula" if is_formula else "transformers"
    if expected is None:
        words = explain_extra(stage, scene.actual[stage], scene.expected, scene.actual)
        return StageResult(**common, status="extra", message=f"{place}: the reference has no such stage; {words}")
    common["n_values"] = int(expected.size)
    if actual is None:
        return StageResult(**common, status="missing", message=f"{place}: the subject does not give it")
    if not _dtypes_agree(expected, actual):
        words = f"{place} is {actual.dtype}, expected {_dtype_words(expected)}; convert it before it is written"
        return StageResult(**common, status="dtype", message=words)
    if stage == "chunk_plan":
        fault = find_plan_fault(case.inputs["token_types"], actual, max_chunk=case.options["max_chunk"])
        message = f"{place}, {fault}" if fault else ""
        return StageResult(**common, status="different" if fault else "equal", message=message)
    if expected.shape != actual.shape:
        suspects = find_suspects(scene, stage, likely=likely, known=None if search(stage) else likely)
        form = "" if suspects else explain_shape(expected, actual)
        said = f": {form}" if form else _looks_like(suspects)
        words = f"{place} has shape {actual.shape}, expected {expected.shape}{said}"
        return StageResult(**common, status="shape", message=words, suspects=suspects)
    distances = bit_distances(expected, actual)
    if not distances.any():
        return StageResult(**common, status="equal")
    suspects = find_suspects(scene, stage, likely=likely, known=None if search(stage) else likely)
    form = "" if suspects else explain_transposed(expected, actual)
    difference = _describe(scene, stage, expected, actual, distances)
    amount = format_share(difference.n_different, distances.size)
    amount = f"{amount} of values differ{_how_far(stage, expected, actual, distances)}"
    said = f": {form}" if form else _looks_like(suspects)
    words = f"{place}, {difference.first}; {amount}{said}"
    return StageResult(**common, status="different", difference=difference, message=words, suspects=suspects)


def bit_distances(expected: NDArray[Any], actual: NDArray[Any]) -> NDArray[np.int64]:
    """How far apart values are: levels of integers, units in the last place of float32 (-0.0 is one below 0.0).

    A NaN where the other has a number is further away than any number; equal bits are 0 apart.
    """
    if expected.dtype.kind != "f":
        distances: NDArray[np.int64] = np.abs(expected.astype(np.int64) - actual.astype(np.int64))
        return distances
    bits = [np.ascontiguousarray(array).view(np.int32).astype(np.int64) for array in (expected, actual)]
    ordered = [np.where(word < 0, -(word & 0x7FFFFFFF) - 1, word) for word in bits]
    apart: NDArray[np.int64] = np.abs(ordered[0] - ordered[1])
    return apart


def count_distances(distances: NDArray[np.int64]) -> dict[str, int]:
    """Bin the distances above 0: "1", "2", "3-4", "5-8" and so on, without empty bins."""
    bins = np.ceil(np.log2(distances[distances > 0])).astype(np.int64)
    numbers, counts = np.unique(bins, return_counts=True)
    return {_bin_name(number): count for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)}


def _bin_name(number: int) -> str:
    return str(number + 1) if number < _EXACT_BINS else f"{2 ** (number - 1) + 1}-{2**number}"


def _describe(
    scene: Scene, stage: str, expected: NDArray[Any], actual: NDArray[Any], distances: NDArray[np.int64]
) -> StageDifference:
    index = tuple(int(i) for i in np.unravel_index(int(np.flatnonzero(distances)[0]), distances.shape))
    came, wanted = (describe_value(stage, array, index) for array in (actual, expected))
    return StageDifference(
        n_different=int(np.count_nonzero(distances)),
        histogram=count_distances(distances),
        first=f"{describe_place(scene.case, stage, index, scene.expected)}: {came}, expected {wanted}",
        crop=crop_around(stage, expected, actual, index, kinds=_token_kinds(scene.case)),
    )


def _token_kinds(case: Case) -> NDArray[Any] | None:
    """Kinds of a mask case's tokens, see `Crop.kinds`; None for other cases."""
    if case.kind != "masks":
        return None
    return token_kinds(case.inputs["token_types"], case.inputs["attention_mask"])


def _how_far(stage: str, expected: NDArray[Any], actual: NDArray[Any], distances: NDArray[np.int64]) -> str:
    """Say by how much, for levels and floats; the distance of ids, masks or text says nothing."""
    most = int(distances.max())
    if expected.dtype.kind == "f":
        if most > _MOST_UNITS:
            with np.errstate(invalid="ignore", over="ignore"):
                return f" by up to {float(np.abs(expected - actual).max()):.3g}"
        return f" by {'1 unit' if most == 1 else f'up to {most} units'} in the last place"
    if stage in ("source_rgb", "resized_rgb"):
        return f" by {'' if most == 1 else 'up to '}{most}"
    return ""


def format_share(part: int, whole: int) -> str:
    """A share in percent that is never rounded to 0 or to 100: "0.4 %", "< 0.1 %", "99.9 %", "100 %"."""
    share = 100 * part / whole
    if share < 0.1:
        return "< 0.1 %"
    return f"{share:.3g} %" if part == whole or share < 99.9 else "> 99.9 %"


def _looks_like(suspects: tuple[Suspect, ...]) -> str:
    if not suspects:
        return ""
    words = suspects[0].words
    return f": {words}" if words.startswith(NO_NEW_MISTAKE) else f": this looks like {words}"


def _dtypes_agree(expected: NDArray[Any], actual: NDArray[Any]) -> bool:
    """Floats must be float32; whole numbers and booleans may be of any width, since their values are compared."""
    return actual.dtype == expected.dtype if expected.dtype.kind == "f" else actual.dtype.kind in "iub"


def _dtype_words(expected: NDArray[Any]) -> str:
    return str(expected.dtype) if expected.dtype.kind == "f" else f"whole numbers such as {expected.dtype}"


def count_statuses(results: tuple[StageResult, ...]) -> Mapping[str, int]:
    """How many results have each status, in the order of their first appearance."""
    counts: dict[str, int] = {}
    for result in results:
        counts[result.status] = counts.get(result.status, 0) + 1
    return counts
