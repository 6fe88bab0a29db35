"""Images: contents, sizes, budgets, orientations, modes, and what implementations got wrong about them."""

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance import patterns
from gemma4_mm.conformance.records import Case
from gemma4_mm.spec import SOFT_TOKEN_BUDGETS

_SMALL: Final = 70  # the least budget: what a case is about does not need more


def image_cases() -> Iterator[Case]:
    """All image cases."""
    yield from _contents()
    yield from _sizes()
    yield from _budgets()
    yield from _orientations()
    yield from _modes()
    yield from _arrays()
    yield from _pitfalls()


def image_case(
    name: str,
    pixels: NDArray[np.uint8],
    summary: str,
    *,
    pitfall: str | None = None,
    inputs: Mapping[str, NDArray[Any]] | None = None,
    **options: Any,
) -> Case:
    """One image case; `options` are those of `cases`."""
    return Case(
        name=name,
        kind="image",
        inputs={"pixels": pixels, **(inputs or {})},
        options=options,
        pitfall=pitfall,
        summary=summary,
    )


def _contents() -> Iterator[Case]:
    made = {
        "gradient": patterns.gradient(120, 200),
        "noise": patterns.noise(150, 110, 3, seed=1),
        "checkerboard": patterns.checkerboard(131, 97),
        "checkerboard-coarse": patterns.checkerboard(90, 140, cell_px=7),
        "black": patterns.solid(40, 60, (0, 0, 0)),
        "white": patterns.solid(60, 40, (255, 255, 255)),
        "solid": patterns.solid(33, 77, (1, 127, 254)),
        "corners": patterns.corners(64, 100),
        "letters": patterns.letters(180, 240),
        "texture": patterns.texture(210, 90, seed=3),
    }
    for name, pixels in made.items():
        yield image_case(f"image-{name}", pixels, f"A {name.replace('-', ' ')} picture.", max_soft_tokens=_SMALL)


def _sizes() -> Iterator[Case]:
    sizes = {  # height, width, budget
        "one-pixel": (1, 1, 70),
        "one-pixel-tall": (1, 57, 70),
        "one-pixel-wide": (57, 1, 70),
        "one-pixel-tall-long": (1, 900, 280),
        "one-pixel-wide-long": (900, 1, 280),
        "two-by-five-hundred": (2, 500, 280),
        "five-hundred-by-two": (500, 2, 280),
        "extreme-landscape": (12, 1300, 140),
        "extreme-portrait": (1300, 12, 140),
        "aspect-at-the-budget": (5, 350, 70),
        "square-48": (48, 48, 70),
        "prime-sides": (211, 383, 140),
        "upscaled-from-tiny": (5, 7, 280),
        "upscaled-one-axis-most": (9, 33, 280),
        "downscaled-twice": (820, 1230, 280),
        "downscaled-six-times": (1700, 2300, 70),
        "height-already-fits": (336, 482, 70),
        "width-already-fits": (482, 336, 70),
    }
    for seed, (name, (height, width, budget)) in enumerate(sizes.items()):
        summary = f"{width}×{height} px of noise at {budget} soft tokens: {name.replace('-', ' ')}."
        yield image_case(f"size-{name}", patterns.noise(height, width, 3, seed=seed), summary, max_soft_tokens=budget)
    exact = {70: (7, 10), 140: (10, 14), 280: (14, 20), 560: (20, 28), 1120: (28, 40)}
    for budget, (rows, columns) in exact.items():
        pixels = patterns.texture(rows * 48, columns * 48, seed=budget)
        summary = f"{columns * 48}×{rows * 48} px fits {budget} soft tokens as it is: no resize happens."
        yield image_case(f"exact-fit-{budget}", pixels, summary, max_soft_tokens=budget)
    yield image_case("exact-fit-plus-one", patterns.texture(337, 480), "One row too many: resized.", max_soft_tokens=70)


def _budgets() -> Iterator[Case]:
    pixels = patterns.texture(300, 410, seed=4)
    for budget in SOFT_TOKEN_BUDGETS:
        yield image_case(f"budget-{budget}", pixels, f"410×300 px at {budget} soft tokens.", max_soft_tokens=budget)


def _orientations() -> Iterator[Case]:
    pixels = patterns.corners(60, 110)
    for orientation in range(1, 9):
        yield image_case(
            f"exif-{orientation}",
            pixels,
            f"A file of 110×60 px with EXIF orientation {orientation}, which is applied.",
            given_as="file",
            exif_orientation=orientation,
            max_soft_tokens=_SMALL,
        )


def _modes() -> Iterator[Case]:
    gray = patterns.gradient(50, 80, channels=2)
    colours = patterns.noise(16, 3, seed=5)
    indices = (patterns.noise(40, 70, seed=6) % 16).astype(np.uint8)
    alpha = (np.arange(16) * 17).astype(np.uint8)
    cmyk = patterns.gradient(44, 66, channels=4)
    keyed = patterns.corners(40, 60)
    made: dict[str, tuple[NDArray[np.uint8], dict[str, NDArray[Any]], dict[str, Any], str]] = {
        "gray": (gray[..., 0], {}, {"mode": "L"}, "Gray becomes three equal channels."),
        "gray-alpha": (gray, {}, {"mode": "LA"}, "Gray with alpha is composited on white."),
        "gray-key": (gray[..., 0] // 64 * 64, {}, {"mode": "L", "transparency": 64}, "One gray level is transparent."),
        "bilevel": (patterns.letters(45, 66)[..., 0] // 128, {}, {"mode": "1"}, "One bit a pixel."),
        "alpha": (patterns.gradient(70, 90, channels=4), {}, {"mode": "RGBA"}, "Alpha is composited on white."),
        "colour-key": (keyed, {}, {"mode": "RGB", "transparency": [96, 96, 96]}, "One RGB colour is transparent."),
        "palette": (indices, {"palette": colours}, {"mode": "P"}, "Sixteen colours."),
        "palette-alpha": (
            indices,
            {"palette": colours, "palette_alpha": alpha},
            {"mode": "P"},
            "A colour table with alpha.",
        ),
        "cmyk": (cmyk, {}, {"mode": "CMYK"}, "Ink colours, converted to RGB."),
        "ycbcr": (patterns.texture(44, 66), {}, {"mode": "YCbCr"}, "Luma and chroma, converted to RGB."),
    }
    for name, (pixels, inputs, options, summary) in made.items():
        yield image_case(f"mode-{name}", pixels, summary, inputs=inputs, max_soft_tokens=_SMALL, **options)


def _arrays() -> Iterator[Case]:
    pixels = patterns.texture(60, 90, seed=7)
    made = {
        "hwc": (pixels, "An array (height, width, 3)."),
        "chw": (np.ascontiguousarray(pixels.transpose(2, 0, 1)), "An array (3, height, width)."),
        "gray": (pixels[None, ..., 0].copy(), "An array (1, height, width)."),
        "rgba": (patterns.gradient(60, 90, channels=4), "An array (height, width, 4), composited on white in float32."),
    }
    for name, (array, summary) in made.items():
        yield image_case(f"array-{name}", array, summary, given_as="array", max_soft_tokens=_SMALL)


def _pitfalls() -> Iterator[Case]:
    yield image_case(
        "pitfall-pillow-resize",
        patterns.letters(400, 610, seed=8),
        "A page of letters, scaled down a little.",
        pitfall="Pillow's or Core Image's resize is taken for torchvision's (mlx-swift-lm#222)",
    )
    yield image_case(
        "pitfall-letterbox",
        patterns.corners(200, 90),
        "A small portrait, which is scaled up until the budget is full, without bars.",
        pitfall="images are letterboxed, or not scaled up to fill the budget (llama.cpp#24146)",
    )
    yield image_case(
        "pitfall-exif-ignored",
        patterns.letters(90, 200, seed=9),
        "A photograph on its side: orientation 6.",
        pitfall="EXIF orientation is ignored (ollama#18418)",
        given_as="file",
        exif_orientation=6,
    )
    yield image_case(
        "pitfall-alpha-on-black",
        patterns.solid(50, 80, (20, 120, 60, 0)),
        "A fully transparent picture, which is white.",
        pitfall="transparent pixels become black, or show the colour under them",
        mode="RGBA",
        max_soft_tokens=_SMALL,
    )
    indices = (patterns.checkerboard(40, 70, cell_px=5)[..., 0] // 255).astype(np.uint8)
    yield image_case(
        "pitfall-palette-transparency",
        indices,
        "Two colours, the first of them transparent.",
        pitfall="the transparent entry of a palette is ignored (transformers#49003)",
        inputs={"palette": np.array([[200, 30, 30], [30, 30, 200]], np.uint8)},
        mode="P",
        transparency=0,
        max_soft_tokens=_SMALL,
    )
    yield image_case(
        "pitfall-icc-profile",
        patterns.gradient(60, 80),
        "A file whose colour profile swaps red and blue; the profile is not applied.",
        pitfall="an embedded ICC profile is applied, so that other values reach the model",
        inputs={"icc_profile": np.frombuffer(swapping_profile(), np.uint8)},
        given_as="file",
        max_soft_tokens=_SMALL,
    )
    yield image_case(
        "pitfall-three-pixels-tall",
        patterns.noise(3, 40, 3, seed=10),
        "An array of 40×3 px: its first axis of three is taken for the channels, as the reference takes it.",
        pitfall="whether 3-pixel-tall arrays are read as channels first differs between implementations",
        given_as="array",
        max_soft_tokens=_SMALL,
    )
    yield image_case(
        "pitfall-three-by-nine-hundred",
        patterns.noise(3, 900, 3, seed=11),
        "A picture of 900×3 px: one row of patches.",
        pitfall="3×900 px images are counted with more soft tokens than they have",
    )


def swapping_profile() -> bytes:
    """Return an ICC profile of a display whose red and blue primaries are exchanged, 2.2 gamma, version 2.4."""

    def xyz(x: float, y: float, z: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65_536) for value in (x, y, z)))

    def text(kind: bytes, words: bytes) -> bytes:
        if kind == b"text":
            return b"text\0\0\0\0" + words + b"\0"
        return b"desc\0\0\0\0" + struct.pack(">I", len(words) + 1) + words + b"\0" + bytes(4 + 4 + 2 + 1 + 67)

    red, green, blue = xyz(0.4361, 0.2225, 0.0139), xyz(0.3851, 0.7169, 0.0971), xyz(0.1431, 0.0606, 0.7141)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256))
    tags = {
        b"desc": text(b"desc", b"red and blue exchanged"),
        b"cprt": text(b"text", b"no copyright"),
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": blue,
        b"gXYZ": green,
        b"bXYZ": red,
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for signature, data in tags.items():
        table += signature + struct.pack(">2I", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63_190, 65_536, 54_061)  # D50, the illuminant of the profile connection space
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + body
