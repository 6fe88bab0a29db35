"""Videos: how frames are chosen, when the prompt says they are shown, and their pixels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance import patterns
from gemma4_mm.conformance.records import Case


def video_cases() -> Iterator[Case]:
    """All video cases."""
    yield from _sampling()
    yield from _rates()
    yield from _frames()
    yield from _pitfalls()


def video_case(
    name: str, frames: NDArray[np.uint8], summary: str, *, pitfall: str | None = None, **options: Any
) -> Case:
    """One video case; `options` are those of `cases`."""
    return Case(name=name, kind="video", inputs={"frames": frames}, options=options, pitfall=pitfall, summary=summary)


def _sampling() -> Iterator[Case]:
    small = patterns.clip(90, 10, 14)
    yield video_case("video-more-than-32", small, "90 frames, 32 of them taken.", fps=24.0)
    yield video_case("video-exactly-32", small[:32], "32 frames, all of them taken.", fps=24.0)
    yield video_case("video-fewer-than-32", small[:20], "20 frames: 32 cannot be taken, which is refused.", fps=24.0)
    yield video_case(
        "video-fewer-than-32-unsampled",
        small[:20],
        "20 frames without sampling.",
        fps=24.0,
        do_sample_frames=False,
        frames_indices=list(range(20)),
    )
    for total, wanted in ((45, 4), (10, 4), (7, 7), (31, 3), (90, 30), (61, 1), (15, 13)):
        yield video_case(
            f"video-{wanted}-of-{total}",
            small[:total],
            f"{wanted} of {total} frames, evenly spread.",
            fps=24.0,
            num_frames=wanted,
        )


def _rates() -> Iterator[Case]:
    frames = patterns.clip(12, 10, 14, seed=2)
    for fps in (23.976, 29.97, 7.5, 1.0, 0.5, 59.94, 1000 / 3, 0.01):
        name = f"video-fps-{fps:.4g}".replace(".", "-")
        yield video_case(name, frames, f"Twelve frames at {fps:.6g} frames a second.", fps=fps, num_frames=5)
    yield video_case("video-fps-unknown", frames, "An unknown rate counts as 24.", num_frames=5)
    yield video_case(
        "video-uneven",
        frames[:5],
        "Five frames that were chosen before, at uneven distances.",
        fps=25.0,
        do_sample_frames=False,
        frames_indices=[0, 3, 130, 1_600, 100_000],
    )


def _frames() -> Iterator[Case]:
    yield video_case("video-landscape", patterns.clip(4, 72, 128), "A landscape.", fps=2.0, num_frames=3)
    yield video_case("video-portrait", patterns.clip(3, 130, 60, seed=1), "A portrait.", fps=2.0, num_frames=2)
    yield video_case(
        "video-exact-fit", patterns.clip(2, 336, 480), "Frames that need no resize.", fps=2.0, num_frames=2
    )
    yield video_case(
        "video-noise", patterns.noise(3, 61, 83, 3), "Noise: every byte value is divided by 255.", fps=1.0, num_frames=3
    )
    for budget in (140, 280):
        yield video_case(
            f"video-budget-{budget}",
            patterns.clip(2, 40, 90),
            f"{budget} soft tokens a frame.",
            fps=1.0,
            num_frames=2,
            max_soft_tokens=budget,
        )


def _pitfalls() -> Iterator[Case]:
    frames = patterns.clip(8, 12, 16, seed=5)
    yield video_case(
        "pitfall-timestamps-zero",
        frames,
        "Eight frames, nine seconds apart.",
        pitfall="every frame is labelled 00:00 (vllm#46988)",
        fps=1 / 9,
        num_frames=8,
    )
    yield video_case(
        "pitfall-fps-inverted",
        frames,
        "A frame every four seconds: the last sampled one is at 00:24.",
        pitfall="seconds per frame are taken for frames per second (ms-swift#10168)",
        fps=0.25,
        num_frames=4,
    )
    yield video_case(
        "pitfall-rescale-of-frames",
        patterns.gradient(336, 480)[None],
        "A frame of all levels: frames are divided by 255, images multiplied by 1/255.",
        pitfall="frames are rescaled as images are: 126 of the 256 levels differ in the last bit",
        fps=1.0,
        num_frames=1,
    )
