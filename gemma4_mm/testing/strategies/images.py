"""Images: pictures that are hard to resize, Pillow images of every mode, arrays whose channels are easily misread."""

from typing import Any, Final, Literal, get_args

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gemma4_mm.errors import InputError
from gemma4_mm.spec import SOFT_TOKEN_BUDGETS

Pattern = Literal["noise", "photo", "checkerboard", "extremes", "columns", "ties", "flat"]
PATTERNS: Final[tuple[Pattern, ...]] = get_args(Pattern)
# Every mode of Pillow that the reference can turn into RGB
IMAGE_MODES: Final = (
    *("RGB", "RGBA", "L", "LA", "P", "PA", "1", "I;16", "I", "F", "CMYK", "YCbCr", "HSV", "LAB", "RGBa"),
)
_LEAST_ARRAY_SIDE_PX: Final = 5  # a first axis of 1, 3 or 4 is read as channels; see `ambiguous_arrays`
_SHAPES: Final = {"small": (1, 120), "medium": (60, 900), "large": (900, 1 << 20)}  # sides in px
_THIN_SIDE_PX: Final = 24
_SEEDS: Final = st.integers(0, 2**16)


def budgets() -> st.SearchStrategy[int]:
    """Soft-token budgets that the model supports: 70, 140, 280, 560, 1120."""
    return st.sampled_from(SOFT_TOKEN_BUDGETS)


def sides_px() -> st.SearchStrategy[int]:
    """Sides of an image to plan, 1 to 200 000 px; two of them reach every aspect, also those that are refused."""
    return st.integers(1, 3000) | st.integers(1, 40) | st.integers(1, 200_000)


def make_picture(pattern: Pattern, *, height_px: int, width_px: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture by its name, uint8 RGB `(height, width, 3)`; the same arguments give the same picture.

    Args:
        pattern: `noise`; `photo`, smooth shading with grain; `checkerboard`, whose every downscaled pixel lies on a
            step of the rounding; `extremes`, 0 and 255, which overshoots both ends, between the passes too;
            `columns`, an odd period against the window, and channels that must not mix; `ties`, neighbours one level
            apart; `flat`.
        height_px: height.
        width_px: width.
        seed: another picture of the same kind; `checkerboard` and `columns` have one only.

    Raises:
        InputError: an unknown pattern.
    """
    generator = np.random.default_rng(seed)
    shape = (height_px, width_px, 3)
    y, x = np.ogrid[:height_px, :width_px]
    match pattern:
        case "noise":
            return generator.integers(0, 256, shape, dtype=np.uint8)
        case "photo":
            smooth = 127 + 100 * np.sin(x / 37 + seed) * np.cos(y / 53)
            return np.clip(smooth[..., None] + generator.normal(0, 9, shape), 0, 255).astype(np.uint8)
        case "checkerboard":
            return np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
        case "extremes":
            return generator.integers(0, 2, shape, dtype=np.uint8) * np.uint8(255)
        case "columns":
            channels: NDArray[np.uint8] = ((x[..., None] * [3, 5, 7] + y[..., None] * [1, 0, 2]) % 256).astype(np.uint8)
            return channels
        case "ties":
            return (127 + generator.integers(0, 2, shape)).astype(np.uint8)
        case "flat":
            return np.full(shape, seed % 256, np.uint8)
    raise InputError(f"pattern is {pattern!r}; known are: {', '.join(PATTERNS)}")


@st.composite
def pictures(draw: st.DrawFn, *, min_side_px: int = 1, max_side_px: int = 3000) -> NDArray[np.uint8]:
    """Pictures of every pattern, uint8 RGB `(height, width, 3)`.

    Mostly moderate sizes; a third is long and thin, beyond every budget's aspect; a few are large.
    """
    reached = {
        name: (max(least, min_side_px), min(most, max_side_px))
        for name, (least, most) in _SHAPES.items()
        if least <= max_side_px and most >= min_side_px
    }
    kinds = ["thin", "thin"] if min_side_px <= _THIN_SIDE_PX else []
    kinds = [*(name for name in reached if name != "large" for _ in range(2)), *kinds]
    kind = draw(st.sampled_from([*kinds, "large"] if "large" in reached else kinds))
    if kind == "thin":
        long_px = draw(st.integers(min_side_px, max_side_px))
        thin_px = draw(st.integers(min_side_px, min(_THIN_SIDE_PX, max_side_px)))
        height_px, width_px = draw(st.permutations([long_px, thin_px]))
    else:
        height_px, width_px = draw(st.integers(*reached[kind])), draw(st.integers(*reached[kind]))
    pattern = draw(st.sampled_from(PATTERNS))
    return make_picture(pattern, height_px=height_px, width_px=width_px, seed=draw(_SEEDS))


@st.composite
def images(
    draw: st.DrawFn, *, min_side_px: int = 1, max_side_px: int = 90, modes: tuple[str, ...] = IMAGE_MODES
) -> Image.Image | NDArray[np.uint8]:
    """Images as people pass them: Pillow images of any mode, and uint8 arrays with channels last.

    Args:
        draw: supplied by Hypothesis.
        min_side_px: at least as long are both sides; of arrays at least 5 px, see `ambiguous_arrays`.
        max_side_px: at most as long are both sides, at least 5.
        modes: of Pillow images; the first is drawn most often.
    """
    form = draw(st.sampled_from([*modes, *modes[:1] * 3, *["array"] * 3]))
    if form == "array":
        return draw(pictures(min_side_px=max(min_side_px, _LEAST_ARRAY_SIDE_PX), max_side_px=max_side_px))
    rgb = draw(pictures(min_side_px=min_side_px, max_side_px=max_side_px))
    alpha = np.random.default_rng(draw(_SEEDS)).integers(0, 256, (*rgb.shape[:2], 1), dtype=np.uint8)
    return in_mode(np.concatenate([rgb, alpha], axis=2), form)


def in_mode(rgba: NDArray[np.uint8], mode: str) -> Image.Image:
    """A Pillow image of any mode out of uint8 `(height, width, 4)`; numbers of wide modes reach beyond a byte."""
    image = Image.fromarray(rgba)
    match mode:
        case "RGBA" | "RGBa":
            return image.convert(mode)
        case "La" | "LA" | "PA":
            return image.convert("LA").convert(mode)
        case "LAB":  # Pillow converts from it, but not into it
            return Image.frombytes("LAB", image.size, image.convert("RGB").tobytes())
        case "I;16":
            return Image.fromarray(rgba[..., 0].astype(np.uint16) * 257)
        case "I" | "F":
            values = rgba[..., 0].astype(np.float32) * 300 - 9000.5
            return Image.fromarray(values if mode == "F" else values.astype(np.int32))
    return image.convert("RGB").convert(mode)


@st.composite
def ambiguous_arrays(draw: st.DrawFn) -> NDArray[Any]:
    """Small uint8 arrays with 2 or 3 axes, many of length 1, 3 or 4, so that channels first or last is hard to tell.

    Some have no axis that can be channels: the reference refuses those.
    """
    axis = st.one_of(st.sampled_from([1, 3, 4]), st.integers(1, 12))
    shape = draw(st.tuples(*[axis] * draw(st.integers(2, 3))))
    values = np.random.default_rng(draw(_SEEDS)).integers(0, 256, shape, np.uint8)
    return values[::-1] if draw(st.booleans()) else values
