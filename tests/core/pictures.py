"""The resize in one call."""

from gemma4_mm.core.vision.resize import ArrayRows, resize_rgb
from gemma4_mm.inputs import PatchGrid


def resized(rgb, *, rows, columns):
    return resize_rgb(ArrayRows(rgb), grid=PatchGrid(rows=rows, columns=columns))
