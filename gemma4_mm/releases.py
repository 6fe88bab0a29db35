"""How transformers releases differ: `RELEASES` has a row per release that changed something, and `Profile` is a row.

To add a release, compare it with this package (`GEMMA4_MM_RELEASES=5.25.0 pytest
tests/conformance/test_earlier_releases.py`), and append a row of what it changed, an empty one if it changed nothing.
Releases later than the last row are refused, since nobody has looked at them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypedDict

from gemma4_mm.errors import InputError


class Changes(TypedDict, total=False):
    """What a release changed: values of `Profile`'s attributes, which are explained there."""

    image_soft_tokens: int
    video_soft_tokens: int
    video_frames: int
    unknown_fps: float
    frame_sampling: Literal["integer", "float"]
    video_layout: Literal["concatenated", "stacked"]
    alpha: Literal["white", "dropped"]
    string_image_exif: Literal["applied", "ignored"]
    none_keys: Literal["dropped", "kept"]


# In order of release; each row changes what stands in the rows above it. Sources: the class defaults and the code of
# `gemma4_unified` in each release. Two changes have no attribute: since 5.13, generation with a static cache has a mask
# rule of its own, which callers name (`build_masks(rule="static")`); before 5.23, placeholders that do not fit the
# media were not refused, which no profile here imitates.
RELEASES: Final[Mapping[str, Changes]] = {
    "5.10": {  # 5.10.1 is the first with gemma4_unified
        "image_soft_tokens": 280,
        "video_soft_tokens": 70,
        "video_frames": 32,
        "unknown_fps": 24.0,
        "frame_sampling": "float",
        "video_layout": "stacked",
        "alpha": "dropped",
        "string_image_exif": "ignored",
        "none_keys": "kept",
    },
    "5.18": {"frame_sampling": "integer"},
    "5.19": {"video_layout": "concatenated"},
    "5.21": {"alpha": "white", "string_image_exif": "applied"},
    "5.24": {"none_keys": "dropped"},
}
DEFAULT_RELEASE: Final = "5.24"  # of this package, where no other is asked for


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How a reference behaves where references differ. Frozen and named, so that a result can say what it equals.

    A profile of your own is `dataclasses.replace(DEFAULT_PROFILE, name="mine", …)`.

    Attributes:
        name: e.g. "transformers-5.24"; part of every content key and report.
        image_soft_tokens: budget of an image where neither call nor `processor_config.json` names one.
        video_soft_tokens: the same for a video frame.
        video_frames: the same for the number of frames sampled from a video.
        unknown_fps: frames per second of a video whose rate is unknown.
        frame_sampling: `arange(n)·T // n` (integer), or `arange(0, T, T/n)` in floats, where a single frame cannot be
            sampled of an array.
        video_layout: frames of all videos concatenated and counted in `num_frames_per_video`, or stacked per video,
            without counts.
        alpha: transparent pixels are composited on white, or the alpha channel is dropped.
        string_image_exif: EXIF orientation of images given as path, URL or base64.
        none_keys: message keys whose value is None are dropped or kept.
    """

    name: str
    image_soft_tokens: int
    video_soft_tokens: int
    video_frames: int
    unknown_fps: float
    frame_sampling: Literal["integer", "float"]
    video_layout: Literal["concatenated", "stacked"]
    alpha: Literal["white", "dropped"]
    string_image_exif: Literal["applied", "ignored"]
    none_keys: Literal["dropped", "kept"]

    @classmethod
    def transformers(cls, version: str = DEFAULT_RELEASE) -> "Profile":
        """The behaviour of one transformers release, e.g. `Profile.transformers("5.12")`.

        A patch release later than the newest known, such as 5.24.7 where 5.24 is, behaves like its minor release.

        Raises:
            InputError: not a version, one before 5.10.1 (the first with `gemma4_unified`), or one of a minor release
                later than the newest known.
        """
        release = _parse_release(version)
        first, *_, newest = RELEASES
        if release < _parse_release(first):
            raise InputError(f"transformers {version} has no gemma4_unified; the first that has it is 5.10.1")
        if release.minor_release > _parse_release(newest).minor_release:
            raise InputError(
                f"transformers {version} is later than {newest}, the newest release that this package knows; ask for "
                f"that one (Profile.transformers({newest!r}), --profile {newest}), or update gemma4-mm"
            )
        behaviour: dict[str, Any] = {}
        for row, changes in RELEASES.items():
            if _parse_release(row) <= release:
                behaviour |= changes
        return cls(name=f"transformers-{version}", **behaviour)

    def at_least(self, version: str) -> bool:
        """Whether this is the profile of a release that is `version` or later, e.g. `at_least("5.23")`.

        Raises:
            InputError: not a version, or a profile that is not named after a release.
        """
        return _parse_release(self.name.removeprefix("transformers-")) >= _parse_release(version)


class _Release(NamedTuple):
    major: int
    minor: int
    patch: int

    @property
    def minor_release(self) -> tuple[int, int]:
        return self.major, self.minor


def _parse_release(version: str) -> _Release:
    match = re.fullmatch(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if match is None:
        raise InputError(f"{version!r} is not a transformers version; write it as '5.24' or '5.21.1'")
    return _Release(int(match[1]), int(match[2]), int(match[3] or 0))


DEFAULT_PROFILE: Final = Profile.transformers(DEFAULT_RELEASE)
