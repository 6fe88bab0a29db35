"""What the parity harness passes around: cases, their stages, and what a comparison found.

A *case* is a named input. A *stage* is one array on the way from it to the model's tensors, such as `target_size` or
`patches`. A *subject* is the implementation under test: it maps a case to its stages. The *reference* does the same.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.errors import InputError

CaseKind = Literal["image", "video", "audio", "conversation", "masks"]
Stages = Mapping[str, NDArray[Any]]
Subject = Callable[["Case"], Stages]
Status = Literal["equal", "different", "missing", "extra", "shape", "dtype", "error"]

# In the order of the computation: the first that differs is the one to look at. Stored dtypes are uint8, int32 and
# float32 only, which every tensor library reads.
STAGES: Final[Mapping[CaseKind, tuple[str, ...]]] = {
    "image": ("source_rgb", "target_size", "resized_rgb", "patches", "position_ids", "soft_tokens"),
    "video": (
        "frame_indices",
        "timestamps",
        "target_size",
        "resized_rgb",
        "patches",
        "position_ids",
        "soft_tokens",
    ),
    "audio": ("pcm", "frames", "frames_mask", "soft_tokens"),
    "conversation": (
        "prompt",
        "token_ids",
        "token_types",
        "attention_mask",
        "pixel_values",
        "image_position_ids",
        "pixel_values_videos",
        "video_position_ids",
        "num_frames_per_video",
        "input_features",
        "input_features_mask",
    ),
    "masks": (
        "mask_sliding_forward",
        "mask_global_forward",
        "mask_sliding_static",
        "mask_global_static",
        "mask_sliding_deepmind",
        "mask_global_deepmind",
        "chunk_plan",
    ),
}
OUTCOME: Final = "outcome"  # the stage of a case that the subject or the reference refused
STATUSES: Final[tuple[Status, ...]] = ("equal", "different", "missing", "extra", "shape", "dtype", "error")
_REPORT_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One named input.

    Attributes:
        name: unique, lower case with dashes; `--cases` patterns match it.
        kind: which stages it has, see `STAGES`.
        inputs: arrays, uint8, int32 or float32. Image: `pixels` `(height, width[, channels])`, with `palette`
            `(colours, 3)` and `transparency` where it has them, `icc_profile` bytes. Video: `frames` `(frames, height,
            width, 3)`. Audio: `samples` `(n,)`, or `(n, channels)` of a file. Masks: `token_types` and `attention_mask`
            `(batch, tokens)`. Conversation: one array per medium, under the name that the messages give it.
        options: JSON values beside the arrays; `cases` says which each kind has.
        pitfall: what implementations get wrong here, in words; None for a case that has no such history.
        summary: what it is, one sentence.
    """

    name: str
    kind: CaseKind
    inputs: Mapping[str, NDArray[Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    pitfall: str | None = None
    summary: str

    def __post_init__(self) -> None:
        inputs = {
            name: np.ascontiguousarray(array) for name, array in self.inputs.items()
        }  # files keep bytes, not strides
        object.__setattr__(self, "inputs", MappingProxyType(inputs))
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A known mistake whose computed result agrees with the subject's.

    Attributes:
        name: short and stable, e.g. `pillow-bicubic`.
        words: what it is, to follow "this looks like".
        explained: share of the different values that it gives exactly, 0 to 1.
    """

    name: str
    words: str
    explained: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Crop:
    """The same window of what was expected and of what came, around the first difference.

    Attributes:
        expected: uint8 `(height, width, 3)` of pixels, or uint8 0/1 `(queries, keys)` of a mask.
        actual: the same of the subject.
        origin: (row, column) of the window's first value within the image or mask.
        where: which image, frame or batch row it is from, in words; "" where there is one only.
        kinds: of a mask's queries and of its keys, uint8 `(queries,)` and `(keys,)`: 0 text, 1 image, 2 video, 3 audio,
            4 padding; None where they are not known, and for pixels.
    """

    expected: NDArray[np.uint8]
    actual: NDArray[np.uint8]
    origin: tuple[int, int]
    where: str = ""
    kinds: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class StageDifference:
    """How two arrays of one shape differ.

    Attributes:
        n_different: values that differ in a bit.
        histogram: distances to counts: levels of integers, units in the last place of floats; keys are "1", "2",
            "3-4", "5-8" and so on, ascending, and "nan".
        first: the first different value in words, e.g. "pixel (12, 40) channel G: 131, expected 130".
        crop: pictures of it, for stages that are pictures.
    """

    n_different: int
    histogram: Mapping[str, int]
    first: str
    crop: Crop | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class StageResult:
    """One stage of one case, compared.

    Attributes:
        case: the case's name.
        kind: the case's kind.
        stage: see `STAGES`; `outcome` where a side refused the case.
        status: `equal`; `different` values; `missing` or `extra` in the subject; another `shape` or `dtype`; `error`
            where one side failed.
        oracle: what the stage was compared with: `transformers`, or `formula` where it has no counterpart there.
        n_values: values of the reference.
        difference: how values differ, where shapes agree.
        message: what is wrong, one sentence that names case and stage; "" if equal.
        suspects: known mistakes that give the subject's values, the likeliest first.
    """

    case: str
    kind: CaseKind
    stage: str
    status: Status
    oracle: Literal["transformers", "formula"] = "transformers"
    n_values: int = 0
    difference: StageDifference | None = None
    message: str = ""
    suspects: tuple[Suspect, ...] = ()

    @property
    def n_different(self) -> int:
        """Values that differ; all of them where they cannot be compared one by one."""
        if self.status == "equal":
            return 0
        return self.n_values if self.difference is None else self.difference.n_different


@dataclass(frozen=True, kw_only=True, eq=False)
class ParityReport:
    """A whole run.

    Attributes:
        subject: name of the implementation under test.
        reference: name of what it was compared with.
        versions: of the reference's packages, its Python and the CPU capability that torch chose.
        profile: which release's behaviour was asked for, e.g. `transformers-5.24`.
        seed: of the random cases; None where there were none.
        n_random: random cases among the cases.
        partial: whether the subject may leave stages out; then `missing` is no failure.
        notes: what each case that failed is, in a sentence, by its name.
        results: stage by stage, in the order of cases and stages.
    """

    subject: str
    reference: str
    versions: Mapping[str, str]
    profile: str
    seed: int | None = None
    n_random: int = 0
    partial: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    results: tuple[StageResult, ...]

    @property
    def failures(self) -> tuple[StageResult, ...]:
        """The results that are not `equal`, without what a partial subject left out."""
        allowed = ("equal", "missing") if self.partial else ("equal",)
        return tuple(result for result in self.results if result.status not in allowed)

    @property
    def n_cases(self) -> int:
        """Cases that were compared."""
        return len({result.case for result in self.results})

    @property
    def n_values(self) -> int:
        """Values that were compared."""
        return sum(result.n_values for result in self.results if result.status != "missing")

    @property
    def passed(self) -> bool:
        """Whether something was compared and all of it is equal."""
        return not self.failures and any(result.status == "equal" for result in self.results)

    def to_json(self) -> str:
        """The whole report as one JSON object; `from_json` reads it back."""
        record = {
            "version": _REPORT_VERSION,
            "subject": self.subject,
            "reference": self.reference,
            "versions": dict(self.versions),
            "profile": self.profile,
            "seed": self.seed,
            "n_random": self.n_random,
            "partial": self.partial,
            "notes": dict(self.notes),
            "results": [_result_to_json(result) for result in self.results],
        }
        return json.dumps(record, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "ParityReport":
        """Read what `to_json` wrote.

        Raises:
            InputError: another version, or not a report.
        """
        try:
            record = json.loads(text)
            version = record.pop("version")
            if version == _REPORT_VERSION:
                results = tuple(_result_from_json(result) for result in record.pop("results"))
                return cls(**record, results=results)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"this is no parity report ({type(error).__name__}: {error}); write it with gemma4-mm parity --report"
            ) from error
        raise InputError(f"parity report version {version} is not {_REPORT_VERSION}; write it again")


def _result_to_json(result: StageResult) -> dict[str, Any]:
    record = {
        name: getattr(result, name) for name in ("case", "kind", "stage", "status", "oracle", "n_values", "message")
    }
    record["suspects"] = [asdict(suspect) for suspect in result.suspects]
    if result.difference is not None:
        difference = result.difference
        record["difference"] = {
            "n_different": difference.n_different,
            "histogram": dict(difference.histogram),
            "first": difference.first,
            "crop": None if difference.crop is None else _crop_to_json(difference.crop),
        }
    return record


def _result_from_json(record: dict[str, Any]) -> StageResult:
    difference = record.pop("difference", None)
    if difference is not None:
        crop = difference.pop("crop")
        difference = StageDifference(**difference, crop=None if crop is None else _crop_from_json(crop))
    suspects = tuple(Suspect(**suspect) for suspect in record.pop("suspects"))
    return StageResult(**record, difference=difference, suspects=suspects)


def _crop_to_json(crop: Crop) -> dict[str, Any]:
    return {
        "shape": list(crop.expected.shape),
        "expected": base64.b64encode(crop.expected.tobytes()).decode(),
        "actual": base64.b64encode(crop.actual.tobytes()).decode(),
        "origin": list(crop.origin),
        "where": crop.where,
        "kinds": None if crop.kinds is None else [kinds.tolist() for kinds in crop.kinds],
    }


def _crop_from_json(record: Mapping[str, Any]) -> Crop:
    expected, actual = (
        np.frombuffer(base64.b64decode(record[name]), np.uint8).reshape(record["shape"])
        for name in ("expected", "actual")
    )
    row, column = record["origin"]
    kinds = None
    if (listed := record.get("kinds")) is not None:
        kinds = (np.array(listed[0], np.uint8), np.array(listed[1], np.uint8))
    return Crop(expected=expected, actual=actual, origin=(row, column), where=record["where"], kinds=kinds)
