"""Pillow's own memory, seen without a copy: the same pixels as packed ones, for as long as they are looked at."""

import gc

import numpy as np
import pytest
from PIL import Image

from gemma4_mm.media import pillow
from gemma4_mm.media.arrow import view_pixels
from gemma4_mm.testing.strategies import make_picture
from tests.media.loading import load_image


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (480, 640), (2049, 2048), (3000, 1700)])
def test_views_equal_packed_rows(shape):
    """The last two take more than 16 MB, so that Pillow keeps them in several pieces, and all of their rows, too."""
    height_px, width_px = shape
    rgb = make_picture("noise", height_px=height_px, width_px=width_px)
    rows = load_image(Image.fromarray(rgb))
    for start, stop in [(0, height_px), (0, 1), (height_px - 1, height_px), (height_px // 3, height_px // 2 + 1)]:
        strip = rows.strided_rows(start, stop)
        assert np.array_equal(strip, rgb[start:stop])
        in_pieces = (stop - start) * width_px * 4 > 16 << 20
        assert strip.strides[1:] == ((3, 1) if in_pieces else (4, 1))
        assert not strip.flags.writeable


def test_a_view_is_no_copy_and_keeps_the_pixels():
    image = Image.fromarray(make_picture("noise", height_px=300, width_px=200))
    rows = load_image(image)
    first, second = rows.strided_rows(0, 300), rows.strided_rows(0, 300)
    assert np.shares_memory(first, second)
    expected = np.asarray(image).copy()
    del image, rows, second
    gc.collect()
    blocks = [Image.new("RGB", (200, 300), (9, 9, 9)) for _ in range(20)]  # memory that was given back is used again
    assert np.array_equal(first, expected)
    del blocks


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "LA", "1", "I;16"])
def test_other_modes_are_packed(mode):
    image = Image.fromarray(make_picture("photo", height_px=60, width_px=50)).convert("L" if mode == "I;16" else "RGB")
    rows = load_image(image.convert(mode))
    assert np.array_equal(rows.strided_rows(5, 40), rows.rows(5, 40))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_images_are_packed(orientation):
    image = Image.fromarray(make_picture("noise", height_px=60, width_px=50))
    rows = pillow.PillowRows(image, orientation=orientation, on_white=False)
    assert np.array_equal(rows.strided_rows(5, 40), rows.rows(5, 40))


def test_rows_too_wide_for_one_piece_are_packed(monkeypatch):
    image = Image.fromarray(make_picture("noise", height_px=20, width_px=300))
    rows = load_image(image)

    def in_pieces(_image):
        raise ValueError("Image is in multiple array blocks")

    monkeypatch.setattr(pillow, "_view_rgbx", in_pieces)
    assert np.array_equal(rows.strided_rows(2, 9), rows.rows(2, 9))


def test_an_export_of_another_layout_is_refused():
    image = Image.fromarray(make_picture("noise", height_px=20, width_px=30))
    with pytest.raises(ValueError, match="600 pixels of 2400 values were exported, not 601 of 4"):
        view_pixels(image, n_pixels=601, pixel_bytes=4)
    with pytest.raises(ValueError, match="not 600 of 3"):
        view_pixels(image, n_pixels=600, pixel_bytes=3)
    with pytest.raises(ValueError, match="600 pixels of 0 values"):
        view_pixels(image.convert("L"), n_pixels=600, pixel_bytes=1)
