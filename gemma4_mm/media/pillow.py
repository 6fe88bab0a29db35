"""The one module that talks to Pillow: files are identified here, decoded, and read as RGB strips."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.errors import InputError, LimitError, MediaError
from gemma4_mm.limits import Limits
from gemma4_mm.media.arrow import view_pixels
from gemma4_mm.media.bounds import check_pixels
from gemma4_mm.media.quiet import ignore_decoder_notes, ignore_pillow_warnings
from gemma4_mm.optional import require
from gemma4_mm.releases import Profile

UPRIGHT: Final = 1  # EXIF orientation of an image that is stored as it is shown
_ORIENTATION_TAG: Final = 0x0112
_COLUMNS_FIRST: Final = (5, 6, 7, 8)  # EXIF orientations whose rows are the columns of the stored image
_FROM_THE_END: Final = (3, 4, 7, 8)  # and those whose first row is the last row or column of it
_METHODS: Final = {  # EXIF orientation to the name of Pillow's transpose, as in its ImageOps.exif_transpose
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_PIXEL_BYTES: Final = 4  # of RGB in Pillow's memory: R, G, B and one byte unused
_WHITE: Final = (255, 255, 255, 255)
_PNG_SIGNATURE_BYTES: Final = 8
_PNG_METADATA: Final = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")

# The formats that are opened, common ones first. EPS is not among them: its plugin runs Ghostscript on the file.
_COMMON_FORMATS: Final = ("JPEG", "PNG", "GIF", "BMP", "PPM")
_FURTHER_FORMATS: Final = ("WEBP", "AVIF", "TIFF", "MPO", "JPEG2000", "ICO", "DIB", "TGA", "PCX", "QOI")

# What Pillow's parsers are known to raise on damaged files; found by flipping bits, see the tests.
_DECODE_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)


class PillowRows:
    """A decoded Pillow image as rows of RGB.

    Conversion, composition on white and EXIF rotation work on each strip as it is read: all of them treat pixels one
    by one, so strips equal the whole image. Source: transformers 5.24 `image_transforms.convert_to_rgb`.

    Attributes:
        height_px: height as shown, after rotation.
        width_px: width as shown, after rotation.
    """

    def __init__(self, image: Any, *, orientation: int, on_white: bool) -> None:
        self._image = image
        self._orientation = orientation
        self._on_white = on_white
        self._whole: NDArray[np.uint8] | Literal[False] | None = None  # its view; False: in pieces; None: not known yet
        self.width_px, self.height_px = shown_size(image, orientation=orientation)

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return uint8 `(stop - start, width, 3)`, read-only."""
        strip = self._image.crop(self._box(start, stop))
        pillow = require("PIL.Image")
        if self._orientation != UPRIGHT:
            strip = strip.transpose(pillow.Transpose[_METHODS[self._orientation]])
        if self._on_white:
            background = pillow.new("RGBA", strip.size, _WHITE)
            strip = pillow.alpha_composite(background, strip.convert("RGBA"))
        strip.info.pop("transparency", None)  # has no part in what follows, except that Pillow warns about it
        if strip.mode != "RGB":
            strip = strip.convert("RGB")
        return np.frombuffer(strip.tobytes(), np.uint8).reshape(stop - start, self.width_px, 3)

    def strided_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return what `rows` returns, as a view of Pillow's own four bytes a pixel where the image is RGB and upright.

        An image in one piece (up to 16 MB) is viewed itself, of a larger one a copy of the rows, which takes Pillow a
        quarter of the time of packing them into three bytes.
        """
        if self._image.mode != "RGB" or self._orientation != UPRIGHT or self._on_white:
            return self.rows(start, stop)
        if self._whole is None:
            try:
                self._whole = _view_rgbx(self._image)
            except ValueError:
                self._whole = False
        if self._whole is not False:
            return self._whole[start:stop]
        try:
            return _view_rgbx(self._image.crop(self._box(start, stop)))
        except ValueError:  # very wide rows
            return self.rows(start, stop)

    def _box(self, start: int, stop: int) -> tuple[int, int, int, int]:
        """Left, upper, right and lower edge of the shown rows in the stored image."""
        if self._orientation in _FROM_THE_END:
            start, stop = self.height_px - stop, self.height_px - start
        if self._orientation in _COLUMNS_FIRST:
            return start, 0, stop, self.width_px
        return 0, start, self.width_px, stop


def _view_rgbx(image: Any) -> NDArray[np.uint8]:
    """View a decoded RGB image, uint8 `(height, width, 3)` with a step of 4 bytes; ValueError if it is in pieces."""
    pixels = view_pixels(image, n_pixels=image.width * image.height, pixel_bytes=_PIXEL_BYTES)
    return pixels.reshape(image.height, image.width, _PIXEL_BYTES)[..., :3]


def shown_size(image: Any, *, orientation: int) -> tuple[int, int]:
    """Width and height after rotation, in Pillow's order."""
    width_px, height_px = image.size
    return (height_px, width_px) if orientation in _COLUMNS_FIRST else (width_px, height_px)


def is_pillow_image(value: Any) -> bool:
    """Whether `value` is a Pillow image."""
    return isinstance(value, require("PIL.Image").Image)


def as_rows(image: Any, *, name: str, orientation: int, profile: Profile) -> PillowRows:
    """Decode an image unless it is, and give its rows.

    Raises:
        MediaError: the pixels are cut off or damaged.
        InputError: a mode that Pillow does not convert to RGB.
    """
    # Asked before decoding, as the reference does. Premultiplied modes (RGBa, La) have no band "A".
    has_alpha = "A" in image.getbands() or image.info.get("transparency") is not None
    rows = PillowRows(image, orientation=orientation, on_white=has_alpha and profile.alpha == "white")
    decode(image, name=name)
    try:
        rows.rows(0, 1)
    except ValueError as error:
        raise InputError(f"{name} is of Pillow mode {image.mode} ({error}); convert it to RGB yourself") from None
    return rows


def open_image(file: BinaryIO, *, name: str, limits: Limits) -> Any:
    """Identify an image file and read its header; no pixel is decoded.

    Raises:
        MediaError: not an image, or a damaged header.
        LimitError: over `limits.max_pixels`.
    """
    pillow = require("PIL.Image")
    with decoding(name):
        try:
            image = pillow.open(file, formats=_COMMON_FORMATS)
        except pillow.UnidentifiedImageError:
            pillow.init()
            image = pillow.open(file, formats=[known for known in _FURTHER_FORMATS if known in pillow.OPEN])
    check_size(image, name=name, limits=limits)
    return image


def check_size(image: Any, *, name: str, limits: Limits) -> None:
    """Check an image's size by its header."""
    width_px, height_px = image.size
    if width_px < 1 or height_px < 1:
        raise MediaError(f"{name} is {width_px}×{height_px} px; each side must be at least 1 px; check the source")
    check_pixels(height_px=height_px, width_px=width_px, name=name, limits=limits)


def decode(image: Any, *, name: str) -> None:
    """Decode the first frame into memory.

    Raises:
        MediaError: the file is cut off or damaged.
    """
    with ignore_decoder_notes() if image.format == "TIFF" else nullcontext(), decoding(name):
        image.load()


def orientation(image: Any) -> int:
    """EXIF orientation, 1 to 8, of a decoded image; unreadable EXIF counts as none."""
    return _orientation(image, image.getexif)


def header_orientation(image: Any, file: BinaryIO) -> int:
    """What `orientation` will say after decoding, without decoding.

    Pillow decodes a whole PNG to look for metadata behind its pixels; here that happens only if there is some.
    """
    if image.format == "PNG" and not _has_metadata_after_pixels(file):
        return _orientation(image, lambda: require("PIL.Image").Image.getexif(image))
    return _orientation(image, image.getexif)


def _orientation(image: Any, read_exif: Callable[[], Any]) -> int:
    if image.format == "TIFF":
        return UPRIGHT  # Pillow turns a TIFF while it decodes, and its header says the size after that
    with ignore_pillow_warnings():
        try:
            value = read_exif().get(_ORIENTATION_TAG)
        except _DECODE_ERRORS:
            return UPRIGHT
    return value if value in _METHODS else UPRIGHT


def _has_metadata_after_pixels(file: BinaryIO) -> bool:
    """Walk the chunk headers of a PNG. The file's position is kept, since Pillow will go on reading there."""
    position = file.tell()
    seen_pixels = False
    found = False
    file.seek(_PNG_SIGNATURE_BYTES)
    while not found and len(header := file.read(8)) == 8:
        n_bytes, kind = struct.unpack(">I4s", header)
        seen_pixels = seen_pixels or kind == b"IDAT"
        found = seen_pixels and kind in _PNG_METADATA
        file.seek(n_bytes + 4, io.SEEK_CUR)  # the chunk and its checksum
    file.seek(position)
    return found


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn what Pillow raises on a damaged or oversized file into our errors, and keep its warnings quiet."""
    pillow = require("PIL.Image")
    with ignore_pillow_warnings():
        try:
            yield
        except pillow.UnidentifiedImageError:
            known = ", ".join((*_COMMON_FORMATS, *_FURTHER_FORMATS))
            raise MediaError(f"{name} is not an image that can be read; give one of {known}") from None
        except pillow.DecompressionBombError as error:
            raise LimitError(
                f"{name}: {error}; Pillow refuses twice PIL.Image.MAX_IMAGE_PIXELS; give a smaller image, or raise "
                "both that and Limits.max_pixels"
            ) from None
        except _DECODE_ERRORS as error:
            raise MediaError(
                f"{name} cannot be decoded ({error or type(error).__name__}); it is cut off or damaged; replace it"
            ) from error
