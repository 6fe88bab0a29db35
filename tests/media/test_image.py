"""Images to RGB rows: against the reference's own RGB tensor, against loops, and against damaged files."""

import io
import struct
import warnings
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from gemma4_mm.errors import Gemma4MMError, InputError, LimitError, MediaError
from gemma4_mm.limits import Limits
from gemma4_mm.media.image import RgbaRows
from gemma4_mm.media.quiet import ignore_pillow_warnings
from gemma4_mm.releases import DEFAULT_PROFILE, Profile
from gemma4_mm.testing.strategies import IMAGE_MODES, ambiguous_arrays, in_mode
from tests.media.files import image_bytes, oriented, photo, png_chunk, scene
from tests.media.loading import image_size, load_image

MODES = [*IMAGE_MODES, "La"]  # Pillow makes no RGB of the last: the reference refuses it
TRANSPARENCY = {  # what a PNG's or GIF's transparency looks like in Pillow, per mode
    "P": [3, bytes(range(0, 256, 2))],
    "L": [7],
    "RGB": [(0, 0, 0), (5, 0, 0)],
    "1": [1],
    "I;16": [300],
}


def image_of(mode, *, height_px, width_px):
    """A Pillow image of any mode whose pixels take all values, alpha included."""
    return in_mode(scene(height_px=height_px, width_px=width_px, channels=4), mode)


def read(source, step=None):
    """All rows, `step` at a time."""
    step = step or source.height_px
    strips = [source.rows(top, min(top + step, source.height_px)) for top in range(0, source.height_px, step)]
    return np.concatenate(strips)


@pytest.fixture(scope="module")
def reference():
    """The reference's RGB tensor of a Pillow image or array, as `(height, width, 3)`."""
    from transformers.models.gemma4_unified.image_processing_gemma4_unified import Gemma4UnifiedImageProcessor

    processor = Gemma4UnifiedImageProcessor()

    def rgb(image):
        return processor.process_image(image, do_convert_rgb=True).permute(1, 2, 0).numpy()

    return rgb


def upright(data):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


# Pillow images and files


@pytest.mark.parity
@settings(max_examples=300)
@given(st.sampled_from(MODES), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.data())
def test_every_mode_equals_the_reference(reference, mode, height_px, width_px, step, data):
    image = image_of(mode, height_px=height_px, width_px=width_px)
    transparency = data.draw(st.sampled_from([None, *TRANSPARENCY.get(mode, [])]))
    if transparency is not None:
        image.info["transparency"] = transparency
    try:
        expected = reference(image)
    except ValueError:
        with pytest.raises(InputError, match=f"mode {mode}.*convert it to RGB yourself"):
            load_image(image)
        return
    rows = load_image(image)
    assert (rows.height_px, rows.width_px) == (height_px, width_px)
    assert np.array_equal(read(rows, step), expected)
    assert image_size(image).height_px == height_px


@pytest.mark.parity
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "MPO"])
def test_files_are_turned_by_their_exif(reference, form, orientation):
    data = oriented(photo(), form, orientation)
    expected = reference(upright(data))
    rows = load_image(data)
    for step in (None, 1, 7):
        assert np.array_equal(read(rows, step), expected)
    size = image_size(data)
    assert (size.height_px, size.width_px) == expected.shape[:2]


@pytest.mark.parity
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_pillow_image_is_not_turned(reference, orientation):
    data = oriented(photo(), "JPEG", orientation)
    image = Image.open(io.BytesIO(data))
    assert np.array_equal(read(load_image(image)), reference(Image.open(io.BytesIO(data))))
    assert read(load_image(image)).shape == (61, 83, 3)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("PNG", "P", {"transparency": bytes(range(256))}),
        ("PNG", "P", {"transparency": 5}),
        ("PNG", "L", {"transparency": 9}),
        ("PNG", "RGB", {"transparency": (0, 0, 0)}),
        ("PNG", "I;16", {}),
        ("PNG", "1", {}),
        ("GIF", "P", {"transparency": 5}),
        ("GIF", "L", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("AVIF", "RGBA", {}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "L", {}),
        ("TIFF", "CMYK", {}),
        ("TIFF", "RGBA", {}),
        ("TIFF", "I;16", {}),
        ("TIFF", "F", {}),
        ("TIFF", "I", {}),
        ("TIFF", "LAB", {}),
        ("JPEG2000", "RGBA", {}),
        ("BMP", "RGB", {}),
        ("TGA", "RGBA", {}),
        ("ICO", "RGBA", {}),
        ("PPM", "RGB", {}),
        ("PCX", "P", {}),
    ],
)
def test_files_of_every_format_equal_the_reference(reference, form, mode, options):
    data = image_bytes(image_of(mode, height_px=32, width_px=48), form, **options)
    assert np.array_equal(read(load_image(data), 5), reference(upright(data)))
    assert image_size(data).width_px == read(load_image(data)).shape[1]


@pytest.mark.parity
@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(reference, form):
    frames = [Image.fromarray(scene(height_px=20, width_px=30, shift=9 * index)) for index in range(3)]
    options = {"lossless": True} if form == "WEBP" else {}
    data = image_bytes(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(read(load_image(data)), reference(Image.open(io.BytesIO(data))))
    image = Image.open(io.BytesIO(data))
    image.seek(2)
    third = read(load_image(image))
    assert np.array_equal(third, reference(image))
    assert not np.array_equal(third, read(load_image(data)))


def test_older_profiles_drop_alpha_and_ignore_exif():
    image = image_of("RGBA", height_px=9, width_px=7)
    dropped = load_image(image, profile=Profile.transformers("5.19"))
    assert np.array_equal(read(dropped), np.asarray(image)[..., :3])
    palette = image_of("P", height_px=9, width_px=7)
    opaque = np.asarray(palette.convert("RGB"))
    palette.info["transparency"] = bytes(256)
    assert np.array_equal(read(load_image(palette, profile=Profile.transformers("5.19"))), opaque)
    assert np.array_equal(read(load_image(palette)), np.full((9, 7, 3), 255, np.uint8))
    sideways = oriented(photo(), "JPEG", 6)
    ignored = replace(DEFAULT_PROFILE, name="no exif", string_image_exif="ignored")
    assert read(load_image(sideways, profile=ignored)).shape == (61, 83, 3)
    assert image_size(sideways, profile=ignored).width_px == 83
    assert image_size(sideways).width_px == 61


def test_the_size_is_read_without_decoding():
    for form in ("JPEG", "PNG", "TIFF"):
        whole = oriented(photo(height_px=200, width_px=300), form, 1)
        cut = whole[: len(whole) * 2 // 3] if form != "TIFF" else whole[:-9000]
        assert image_size(cut).width_px == 300
        with pytest.raises(MediaError, match="cut off or damaged; replace it"):
            load_image(cut)


def test_exif_behind_the_pixels_of_a_png_counts_in_the_size_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = image_bytes(photo(), "PNG")
    late = plain[:-12] + png_chunk(b"eXIf", exif.tobytes()[6:]) + plain[-12:]
    assert read(load_image(late)).shape == (83, 61, 3)
    assert image_size(late).width_px == 61


def test_unreadable_exif_counts_as_none():
    data = image_bytes(photo(), "JPEG", exif=b"Exif\x00\x00garbage!")
    assert read(load_image(data)).shape == (61, 83, 3)
    assert image_size(data).width_px == 83


# Arrays


def on_white_slowly(rgba):
    """One pixel at a time, each step rounded to float32."""
    step = np.float32(1 / 255)
    rgb = np.empty((*rgba.shape[:2], 3), np.uint8)
    for place in np.ndindex(rgb.shape):
        alpha = np.float32(rgba[place[0], place[1], 3]) * step
        colour = np.float32(rgba[place]) * step
        blended = np.float32(np.float32(colour * alpha) + np.float32(np.float32(1) - alpha))
        rgb[place] = int(np.float32(blended * np.float32(255.999)))
    return rgb


def every_colour_at_every_alpha():
    alpha, colour = np.mgrid[0:256, 0:256].astype(np.uint8)
    return np.stack([colour, colour[:, ::-1], colour ^ 0x55, alpha], axis=-1)


def test_rgba_equals_the_slow_twin():
    rgba = every_colour_at_every_alpha()[::5, ::7]
    assert np.array_equal(RgbaRows(rgba).rows(0, len(rgba)), on_white_slowly(rgba))


@pytest.mark.parity
def test_every_colour_at_every_alpha_equals_the_reference(reference):
    rgba = every_colour_at_every_alpha()
    assert np.array_equal(read(load_image(rgba), 100), reference(rgba))


@pytest.mark.parity
@settings(max_examples=300)
@given(ambiguous_arrays(), st.integers(1, 12))
@example(np.arange(3 * 900 * 3, dtype=np.int64).astype(np.uint8).reshape(3, 900, 3), 2)
@example(np.arange(4 * 9 * 3, dtype=np.uint8).reshape(4, 9, 3), 2)
def test_arrays_equal_the_reference(reference, array, step):
    try:
        expected = reference(array.copy())
    except ValueError:
        with pytest.raises(InputError, match="1, 3 or 4 channels"):
            load_image(array)
        return
    rows = load_image(array)
    assert np.array_equal(read(rows, step), expected)
    assert (image_size(array).height_px, image_size(array).width_px) == expected.shape[:2]


@pytest.mark.parity
def test_a_tensor_is_an_array(reference):
    import torch

    tensor = torch.from_numpy(scene(height_px=9, width_px=11)).permute(2, 0, 1)
    assert np.array_equal(read(load_image(tensor)), reference(tensor))


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), InputError, r"image 2 is an array of float32; it must be uint8.*convert it"),
        (np.zeros((4, 4, 3), bool), InputError, "array of bool"),
        (np.zeros((5, 5, 2), np.uint8), InputError, r"shape \(5, 5, 2\); it must be .* 1, 3 or 4 channels"),
        (np.zeros((2, 4, 4, 3), np.uint8), InputError, r"shape \(2, 4, 4, 3\)"),
        (np.zeros((0, 0, 3), np.uint8), InputError, "image 2 is 0×0 px; each side must be at least 1 px"),
        (Image.new("RGB", (0, 5)), InputError, "image 2 is 0×5 px"),
        (12, InputError, "image 2 is int; give a path"),
        (None, InputError, "image 2 is NoneType"),
        (
            b"this is a text, not an image",
            MediaError,
            r"image 2 \(bytes\) is not an image that can be read; give one of",
        ),
        (b"", MediaError, r"image 2 \(bytes\) is empty"),
    ],
)
def test_what_is_no_image_is_an_error(capfd, value, error, message):
    for call in (load_image, image_size):
        with pytest.raises(error, match=message):
            call(value, label="image 2")
    assert capfd.readouterr() == ("", "")


def test_older_profiles_take_arrays_of_rgb_alone():
    old = Profile.transformers("5.19")
    assert load_image(np.zeros((4, 5, 3), np.uint8), profile=old).width_px == 5
    for shape in ((4, 5), (4, 5, 1), (4, 5, 4), (1, 9, 3)):
        with pytest.raises(InputError, match="with 3 channels"):
            load_image(np.zeros(shape, np.uint8), profile=old)


# Limits and damage


def png_header(*, height_px, width_px):
    """A PNG that claims a size and holds no pixel."""
    head = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("height_px", "width_px", "error", "message"),
    [
        (12_000, 12_000, LimitError, r"is 12000×12000 px \(144.0 Mpx\); the limit is 89.5 Mpx;.*Limits.max_pixels"),
        (50_000, 50_000, LimitError, "2500000000 pixels.*raise both that and Limits.max_pixels"),
        (0, 0, MediaError, "is not an image that can be read"),
    ],
)
def test_sizes_are_checked_by_the_header(capfd, height_px, width_px, error, message):
    data = png_header(height_px=height_px, width_px=width_px)
    for call in (load_image, image_size):
        with pytest.raises(error, match=message):
            call(data)
    assert capfd.readouterr() == ("", "")


def test_max_pixels_is_inclusive_and_holds_for_everything():
    limits = Limits(max_pixels=61 * 83)
    for value in (image_bytes(photo(), "PNG"), photo(), np.asarray(photo())):
        assert load_image(value, limits=limits).height_px == 61
        with pytest.raises(LimitError, match=r"raise Limits\.max_pixels"):
            load_image(value, limits=Limits(max_pixels=61 * 83 - 1))


@pytest.mark.parametrize(
    ("form", "options"),
    [
        *[(form, {}) for form in ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "JPEG2000", "ICO", "TGA")],
        *[("TIFF", {"compression": compression}) for compression in ("tiff_lzw", "jpeg", "tiff_deflate", "packbits")],
    ],
)
def test_damaged_files_raise_only_our_errors_and_write_nothing(capfd, form, options):
    if form in ("JPEG", "PNG", "WEBP", "TIFF"):
        options = {**options, "exif": Image.Exif()}
    whole = image_bytes(photo(height_px=32, width_px=32), form, **options)
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole[: random.integers(1, len(whole) + 1)])
        for place in random.integers(0, min(len(damaged), 200), 3):
            damaged[place] = random.integers(0, 256)
        for call in (load_image, image_size):
            with suppress(Gemma4MMError):
                call(bytes(damaged), limits=Limits(max_pixels=1 << 22))
    assert capfd.readouterr() == ("", "")


def test_postscript_is_not_opened():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(MediaError, match="not an image that can be read"):
        load_image(eps)


def test_overlapping_quiet_sections_leave_no_filter_behind():
    before = list(warnings.filters)
    first, second = ignore_pillow_warnings(), ignore_pillow_warnings()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # as threads do: not in the reverse order
    inside = list(warnings.filters)
    second.__exit__(None, None, None)
    assert warnings.filters == before
    assert inside[1:] == before
