"""Cases that the fixtures have beside the corpus: each fails a wrong port that every other case lets pass.

Sources stay under a megabyte, so no picture here can be halved along both axes: 70 soft tokens are at least 0.16 Mpx
wherever a row and a column both fit. The two `size-shrunk` cases lose most of a row (1.997 rows become 1), which leaves
one axis shrunk 2.375 times and the other 1.19 times, and each axis in turn.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from gemma4_mm.conformance import patterns
from gemma4_mm.conformance.cases.audio import audio_case
from gemma4_mm.conformance.cases.conversations import conversation_case, medium, user
from gemma4_mm.conformance.cases.images import image_case
from gemma4_mm.conformance.cases.masks import mask_case
from gemma4_mm.conformance.cases.videos import video_case
from gemma4_mm.conformance.records import Case

# Height, width, budget, and how float64 in SCHEMA's order comes out; other orders or float32 give another grid.
_TRAPS: Final = (
    (238, 85, 280, "27×9; in float32, or as sqrt(B·H/W), 28×10"),
    (154, 880, 70, "3×19; in float32, or as sqrt(B·W/H), 3×20"),
    (22, 385, 1120, "8×139; in float32 another grid"),
    (70, 361, 70, "3×19; in float32, or as f·(H/48), another grid"),
    (7, 250, 70, "1×50; as f·(W/48) or (f/48)·W another grid"),
    (205, 287, 140, "9×14; as 48·sqrt(B/(H·W)) 10×14"),
    (65, 182, 70, "5×14; with a square root of its own for B and H·W another grid"),
)


def additional_cases() -> Iterator[Case]:
    """All cases that only the fixtures have."""
    yield image_case(
        "size-wide-kernels",
        patterns.noise(1, 40_000, 3, seed=12),
        "One row of 40,000 px: about fifty source pixels reach each output.",
        max_soft_tokens=70,
    )
    samples = (patterns.noise(31 * 16_000, seed=13).astype(np.float32) - np.float32(128)) / np.float32(128)
    yield audio_case(
        "pitfall-audio-cap-bytes",
        samples,
        "31 s of 8 bits: 775 tokens; the cap of 750 is documented, and not enforced.",
        pitfall="a cap of 30 s is applied to placeholders but not to features (mlx-swift-lm#400)",
    )
    yield from _sizes()
    yield from _videos()
    yield from _conversations()
    yield from _masks()


def _sizes() -> Iterator[Case]:
    for name, (height, width) in {"flat": (114, 2000), "tall": (2000, 114)}.items():
        yield image_case(
            f"size-shrunk-{name}",
            patterns.noise(height, width, 3, seed=20),
            f"{width}×{height} px of noise at 70 soft tokens: both axes shrink, one of them 2.375 times.",
            max_soft_tokens=70,
        )
    for height, width, budget, words in _TRAPS:
        yield image_case(
            f"size-exact-{height}-by-{width}",
            patterns.texture(height, width, seed=height),
            f"{height} rows of {width} px at {budget} soft tokens: in float64 the grid is {words}.",
            max_soft_tokens=budget,
        )


def _videos() -> Iterator[Case]:
    frames = patterns.clip(4, 10, 14, seed=6)
    chosen: dict[str, Any] = {"do_sample_frames": False}
    yield video_case(
        "video-whole-seconds",
        frames,
        "Chosen frames at whole seconds of 49 a second: index·(1/fps) is just below them.",
        fps=49.0,
        frames_indices=[0, 49, 98, 147],
        **chosen,
    )
    yield video_case(
        "video-just-under-a-second",
        frames[:2],
        "Times just below whole seconds, which float32 and whole milliseconds round up.",
        fps=29.97,
        frames_indices=[989, 123_866],
        **chosen,
    )
    yield video_case(
        "video-over-99-minutes",
        frames[:2],
        "Minutes of three digits, and of two hours more.",
        fps=1.0,
        frames_indices=[6_001, 13_259],
        **chosen,
    )
    yield video_case(
        "video-14-of-122",
        patterns.clip(122, 6, 8, seed=8),
        "14 of 122 frames: i·(T/n) in floating point is below a whole number at one of them.",
        fps=24.0,
        num_frames=14,
    )
    yield video_case(
        "video-33-frames",
        patterns.clip(33, 6, 8, seed=7),
        "33 frames without sampling: the 32 of the default are no limit.",
        fps=24.0,
        frames_indices=list(range(33)),
        **chosen,
    )


def _conversations() -> Iterator[Case]:
    picture, portrait = patterns.texture(60, 90), patterns.texture(90, 30, seed=2)
    clip = patterns.clip(3, 30, 44)
    ask: dict[str, Any] = {"add_generation_prompt": True}
    yield conversation_case(
        "media-in-every-row",
        [[user(medium("image", "a"), "One.")], [user("Two, and longer:", medium("image", "b"))]],
        "Two rows with an image each, of other sizes: media are counted through the batch.",
        media={"a": picture, "b": portrait},
        **ask,
        processor_kwargs={"max_soft_tokens": 70},
    )
    yield conversation_case(
        "media-two-videos",
        [user(medium("video", "a"), "and", medium("video", "b"))],
        "Two clips of two frames and of one.",
        media={"a": clip[:2], "b": np.ascontiguousarray(clip[2:].swapaxes(1, 2))},
        **ask,
        processor_kwargs={"do_sample_frames": False},
    )


def _masks() -> Iterator[Case]:
    yield mask_case(
        "masks-long-blocks",
        [(("text", 5), ("image", 14), ("audio", 3), ("video", 11), ("text", 6), ("image", 4), ("text", 3))],
        "Two blocks longer than the window of 6 and than a chunk of 10, with audio between them.",
        sliding_window=6,
        max_chunk=10,
    )
