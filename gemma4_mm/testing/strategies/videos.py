"""Videos: clips as arrays, decoded frames in every form that is taken, and frame counts to sample from."""

from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gemma4_mm.testing.strategies.images import in_mode, pictures

_MOST_CLIP_VALUES: Final = 6_000_000  # bytes of one clip
_FRAME_MODES: Final = ("RGB", "RGB", "RGB", "L", "RGBA", "YCbCr", "P")


@st.composite
def clips(
    draw: st.DrawFn, *, min_frames: int = 1, max_frames: int = 7, min_side_px: int = 5, max_side_px: int = 60
) -> NDArray[np.uint8]:
    """Clips, uint8 RGB `(frames, height, width, 3)`; one picture drifts over the frames, so that all differ.

    Args:
        draw: supplied by Hypothesis.
        min_frames: at least as many frames.
        max_frames: at most as many frames; large frames come in clips of 6 MB, if `min_frames` allows it.
        min_side_px: at least as long are both sides; below 5 px, a frame's axes are easily misread.
        max_side_px: at most as long are both sides.
    """
    rgb = draw(pictures(min_side_px=min_side_px, max_side_px=max_side_px))
    most = max(min_frames, min(max_frames, _MOST_CLIP_VALUES // rgb.size))
    n_frames = draw(st.integers(min_frames, most))
    # By unequal steps: a checkerboard would come back to itself
    return np.stack([np.roll(rgb, (shift, 2 * shift), axis=(0, 1)) for shift in range(n_frames)])


@st.composite
def decoded_videos(draw: st.DrawFn, *, max_frames: int = 70) -> Any:
    """Frames that are decoded already: an array, a list of arrays, a list of Pillow images, one array or one image.

    Sides of 1 to 9 px and 1 to 4 channels, first or last: shapes that are easily misread, and some that the reference
    refuses.
    """
    side = st.one_of(st.sampled_from([1, 3, 4]), st.integers(1, 9))
    n_frames = draw(st.integers(1, max_frames))
    height, width, channels = draw(st.tuples(side, side, st.sampled_from([1, 3, 3, 3, 4, 2])))
    shape = (channels, height, width) if draw(st.booleans()) else (height, width, channels)
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    form = draw(st.sampled_from(["array", "list", "images", "frame", "image"]))
    if form in ("array", "list", "frame"):
        frames = generator.integers(0, 256, (n_frames, *shape), np.uint8)
        return {"array": frames, "list": list(frames), "frame": frames[0]}[form]
    mode = draw(st.sampled_from(_FRAME_MODES))
    rgba = generator.integers(0, 256, (n_frames, *shape[:2], 4), np.uint8)
    made: list[Image.Image] = [in_mode(frame, mode) for frame in rgba]
    return made[0] if form == "image" else made


@st.composite
def frame_counts(draw: st.DrawFn, *, max_total: int = 20_000, max_sampled: int = 600) -> tuple[int, int]:
    """Frames of a whole video, and how many of them are asked for: never more than there are."""
    total = draw(st.integers(1, max_total))
    return total, draw(st.integers(1, min(total, max_sampled)))
