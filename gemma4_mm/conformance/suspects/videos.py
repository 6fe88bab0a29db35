"""Mistakes with which frames are taken, and with the times that the prompt says."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.cases.defaults import UNKNOWN_FPS
from gemma4_mm.conformance.suspects.scene import Scene, Theory
from gemma4_mm.core.video.sampling import sample_frame_indices
from gemma4_mm.releases import Profile

_FLOAT_STEPS: Final = Profile.transformers("5.17")


def _total(scene: Scene) -> int:
    return len(scene.case.inputs["frames"])


def _count(scene: Scene) -> int:
    return len(scene.expected["frame_indices"])


_CHOICES: Final[Mapping[str, tuple[str, Callable[[int, int], NDArray[Any]]]]] = {
    "first-frames": ("the first frames instead of a spread over the video", lambda n, _total: np.arange(n)),
    "ends-included": (
        "frames spread from the first to the last, both included",
        lambda n, total: np.linspace(0, total - 1, n).astype(np.int64),
    ),
    "ends-included-rounded": (
        "frames spread from the first to the last, both included, rounded",
        lambda n, total: np.linspace(0, total - 1, n).round(),
    ),
    "middles": (
        "the middle of each stretch instead of its first frame",
        lambda n, total: (2 * np.arange(n) + 1) * total // (2 * n),
    ),
    "float-steps": (
        "steps in floating point, as before transformers 5.18",
        lambda n, total: sample_frame_indices(total, num_frames=n, profile=_FLOAT_STEPS),
    ),
}


def _choice_theory(name: str, words: str, choose: Callable[[int, int], NDArray[Any]]) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:  # noqa: ARG001 (one stage only)
        if not scene.case.options.get("do_sample_frames", True):
            return None
        return choose(_count(scene), _total(scene)).astype(np.int32)

    return Theory(name=name, words=words, kinds=("video",), stages=("frame_indices",), compute=compute)


def _seconds(scene: Scene) -> NDArray[np.float64]:
    fps: float = scene.case.options.get("fps") or UNKNOWN_FPS
    return scene.expected["frame_indices"] / fps


def _at_24(scene: Scene) -> NDArray[np.float64]:
    return scene.expected["frame_indices"] / UNKNOWN_FPS


def _inverted(scene: Scene) -> NDArray[np.float64]:
    fps: float = scene.case.options.get("fps") or UNKNOWN_FPS
    return scene.expected["frame_indices"] * fps


_TIMES: Final[Mapping[str, tuple[str, Callable[[Scene], NDArray[Any]]]]] = {
    "times-zero": ("00:00 for every frame", lambda scene: np.zeros(_count(scene))),
    "fps-inverted": ("seconds per frame taken for frames per second", _inverted),
    "fps-ignored": ("24 frames a second, whatever the video has", _at_24),
    "times-rounded": (
        "times rounded to the nearest second instead of down",
        lambda scene: np.floor(_seconds(scene) + 0.5),
    ),
    "frames-as-seconds": ("one second per sampled frame", lambda scene: np.arange(_count(scene))),
    "indices-as-seconds": ("one second per frame of the video", lambda scene: scene.expected["frame_indices"]),
    "times-doubled": (
        "the time of the middle of the next stretch",
        lambda scene: _seconds(scene) + _seconds(scene)[1:2].sum() / 2,
    ),
}


def _time_theory(name: str, words: str, times: Callable[[Scene], NDArray[Any]]) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:  # noqa: ARG001 (one stage only)
        whole = times(scene).astype(np.int64)
        return np.stack([whole // 60, whole % 60], axis=-1).astype(np.int32)

    return Theory(name=name, words=words, kinds=("video",), stages=("timestamps",), compute=compute)


VIDEO_THEORIES: Final = (
    *(_choice_theory(name, *row) for name, row in _CHOICES.items()),
    *(_time_theory(name, *row) for name, row in _TIMES.items()),
)
