"""Pixels and samples by closed formulas in integers: the same bits on every machine and in every language.

No random generator and no transcendental function of a mathematics library is used: their last bits differ.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
_GLYPHS: Final = (  # rows of 5×7 letters, one bit a pixel, for text-like edges
    (0x0E, 0x11, 0x11, 0x1F, 0x11, 0x11, 0x11),
    (0x1E, 0x11, 0x1E, 0x11, 0x11, 0x11, 0x1E),
    (0x1F, 0x10, 0x1E, 0x10, 0x10, 0x10, 0x1F),
    (0x11, 0x11, 0x11, 0x1F, 0x11, 0x11, 0x11),
    (0x0E, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0E),
    (0x11, 0x19, 0x15, 0x13, 0x11, 0x11, 0x11),
)


def hash32(values: NDArray[np.integer], *, seed: int = 0) -> NDArray[np.uint32]:
    """Mix whole numbers to 32 bits that look random (the finaliser of MurmurHash3, with wrapping products)."""
    mixed = values.astype(np.uint32) + np.uint32(seed * 0x9E3779B9 & 0xFFFFFFFF)
    mixed ^= mixed >> np.uint32(16)
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def noise(*shape: int, seed: int = 0) -> Rgb:
    """Bytes that look random: the hash of each value's place."""
    return (hash32(np.arange(int(np.prod(shape))), seed=seed) >> np.uint32(24)).astype(np.uint8).reshape(shape)


def gradient(height_px: int, width_px: int, *, channels: int = 3) -> Rgb:
    """Ramps: across in the first channel, down in the second, diagonal in the third, across and back in a fourth."""
    y, x = np.mgrid[0:height_px, 0:width_px]
    across, down = x * 255 // max(width_px - 1, 1), y * 255 // max(height_px - 1, 1)
    planes = (across, down, (across + down) // 2, 255 - abs(2 * across - 255))
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def checkerboard(height_px: int, width_px: int, *, cell_px: int = 1) -> Rgb:
    """Black and white cells: all of a resize's error is in them."""
    y, x = np.mgrid[0:height_px, 0:width_px]
    cells = ((x // cell_px + y // cell_px) % 2 * 255).astype(np.uint8)
    return np.repeat(cells[..., None], 3, axis=-1)


def solid(height_px: int, width_px: int, colour: tuple[int, ...]) -> Rgb:
    """One colour."""
    return np.broadcast_to(np.array(colour, np.uint8), (height_px, width_px, len(colour))).copy()


def corners(height_px: int, width_px: int) -> Rgb:
    """Gray, with a red, green, blue and yellow corner: shows every wrong turn and swap."""
    image = solid(height_px, width_px, (96, 96, 96))
    rows, columns = max(height_px // 4, 1), max(width_px // 3, 1)
    image[:rows, :columns] = (230, 20, 30)
    image[:rows, -columns:] = (20, 200, 40)
    image[-rows:, :columns] = (30, 40, 220)
    image[-rows:, -columns:] = (240, 220, 10)
    return image


def letters(height_px: int, width_px: int, *, seed: int = 0) -> Rgb:
    """Dark letters on paper, 6×9 px apart: the edges of a scanned page."""
    image = solid(height_px, width_px, (250, 248, 240))
    columns = -(-width_px // 6)
    chosen = hash32(np.arange(-(-height_px // 9) * columns), seed=seed) % np.uint32(len(_GLYPHS) + 1)
    for place, glyph in enumerate(chosen.tolist()):
        if glyph == len(_GLYPHS):
            continue  # a space
        top, left = place // columns * 9 + 1, place % columns * 6
        for row, bits in enumerate(_GLYPHS[glyph]):
            for column in range(5):
                if bits >> (4 - column) & 1 and top + row < height_px and left + column < width_px:
                    image[top + row, left + column] = (24, 22, 40)
    return image


def texture(height_px: int, width_px: int, *, seed: int = 0) -> Rgb:
    """Gradients, edges and fine texture in one."""
    y, x, c = np.ogrid[0:height_px, 0:width_px, 0:3]
    waves = x * (3 + c) + y * (5 - c) + (x * y) // (7 + seed % 5)
    levels: Rgb = ((waves + 80 * ((x // 9 + y // 5) % 2) + 31 * seed) % 256).astype(np.uint8)
    return levels


def clip(frames: int, height_px: int, width_px: int, *, seed: int = 0) -> Rgb:
    """Frames that all differ, uint8 `(frames, height, width, 3)`."""
    return np.stack([texture(height_px, width_px, seed=seed + frame) for frame in range(frames)])


def tone(n_samples: int, *, frequency_hz: int = 440, rate_hz: int = 16_000, level: float = 0.5) -> NDArray[np.float32]:
    """Parabolic arches, close to a sine: float32 `(n,)` at or below `level`, a power of two."""
    return _arches(np.arange(n_samples, dtype=np.int64) * frequency_hz * 65_536 // rate_hz, level=level)


def chirp(n_samples: int, *, level: float = 0.5) -> NDArray[np.float32]:
    """A tone that rises with time, float32 `(n,)`."""
    time = np.arange(n_samples, dtype=np.int64)
    return _arches(time * 800 + time * time // 8, level=level)


def hiss(n_samples: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Noise of 16 bits in [-1, 1), float32 `(n,)`: each value is exact, and distinct in almost every sample."""
    words = hash32(np.arange(n_samples), seed=seed) >> np.uint32(16)
    return ((words.astype(np.int64) - 32_768) / 32_768).astype(np.float32)


def _arches(phase: NDArray[np.int64], *, level: float) -> NDArray[np.float32]:
    place = phase % 65_536 - 32_768
    heights = place * (32_768 - np.abs(place)) // 8_192  # within ±32768
    samples: NDArray[np.float32] = (heights * (level / 32_768)).astype(np.float32)
    return samples
