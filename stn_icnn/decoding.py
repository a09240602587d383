"""Opening image files: which are accepted, how they are decoded, and what may go wrong."""

import errno
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

DECODE_ERRORS: Final = (
    OSError,
    SyntaxError,  # Pillow's word for a broken PNG chunk
    ValueError,
    EOFError,
    ArithmeticError,
    AssertionError,  # of Pillow's plugins, as for a palette that is missing
    AttributeError,
    LookupError,
    TypeError,  # these four for nonsense in EXIF or TIFF tags
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""The errors that Pillow and simplejpeg raise for a file that is damaged or no image."""


_FILE_FAULTS: Final = frozenset(
    (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
)
"""The numbers of errors that are one file's fault. What a bucket refuses has no number: a lack of
rights there is a lack for every file."""

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


class RejectedError(Exception):
    """An image or mask cannot be used.

    The text is the reason, `KIND: DETAILS`, as it stands in a manifest; reasons are counted by
    kind.
    """


class MissingFileError(RejectedError):
    """There is no file of an image or mask."""


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """Rules by which images are accepted."""

    formats: tuple[str, ...] | None
    """Pillow's names of the file formats. None: all that Pillow reads, among them one that is a
    program (EPS)."""
    max_pixels: int | None
    """Width times height. None: Pillow's own limit, beyond which it suspects an attack."""
    accepts_16_bits: bool
    """Whether channels of 16 or 32 bits are accepted; Pillow cuts what is above 255 to 255, or off
    the lower half of the bits."""


STRICT: Final = ImageRules(
    formats=("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"),
    max_pixels=50_000_000,  # a larger one would take the memory of several workers
    accepts_16_bits=False,
)
"""For raw data sets: nothing is read otherwise than it was meant. Photographs that are parsed have
rules of their own, in `inference/photo_decoding.py`."""


class FileReader(Protocol):
    """Reads whole files by their paths; every storage location is one."""

    def read(self, path: str) -> bytes:
        """Returns the whole file; raises FileNotFoundError where there is none."""


def read_image_file(files: FileReader, path: str, what: str = "image") -> bytes:
    """Reads the file of an image or mask.

    Args:
        files: where it lies.
        path: its path there.
        what: `image` or `mask`, with which a reason begins.

    Raises:
        MissingFileError: there is none.
        RejectedError: the file cannot be read, by its own fault, or is empty.
        OSError: disk or network failed.
    """
    try:
        data = files.read(path)
    except OSError as error:
        if error.errno in _FILE_FAULTS:
            raise RejectedError(f"{what} not readable: {error.strerror}") from error
        if isinstance(error, FileNotFoundError):
            raise MissingFileError(f"{what} missing") from error
        raise
    if not data:
        raise RejectedError(f"{what} empty: a file of 0 bytes")
    return data


def open_image(
    source: bytes | str | Path | Image.Image, rules: ImageRules, what: str = "image"
) -> Image.Image:
    """Opens an image; its pixels are not decoded yet.

    Args:
        source: a file's content, a file, or an image that is open already.
        rules: which images are accepted.
        what: `image` or `mask`, with which a reason begins.

    Raises:
        RejectedError: the rules refuse it.
        Exception: one of DECODE_ERRORS, where Pillow cannot read it.
    """
    try:
        if isinstance(source, Image.Image):
            opened = source
        else:
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            opened = Image.open(file, formats=rules.formats)
    except Image.DecompressionBombError as error:
        raise RejectedError(f"{what} too large: {first_line(error)}") from error
    if rules.max_pixels is not None and opened.width * opened.height > rules.max_pixels:
        raise RejectedError(f"{what} too large: {opened.width} x {opened.height} px")
    if not rules.accepts_16_bits and _has_16_bits(opened):
        raise RejectedError(f"{what} of 16 bits: mode {opened.mode}, convert it to 8 bits")
    return opened


def decode_photo(source: bytes | str | Path | Image.Image, rules: ImageRules) -> Image.Image:
    """Decodes a photograph: upright as its EXIF says, in RGB.

    Args:
        source: as `open_image` takes it.
        rules: which photographs are accepted.

    Returns:
        The opened image itself where it is upright and RGB as it stands; one that was turned or
        converted no longer has a `format`.

    Raises:
        RejectedError: the rules refuse it, or it does not decode; Pillow's error is its cause.
    """
    try:
        image = open_image(source, rules)
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        return image if image.mode == "RGB" else image.convert("RGB")
    except DECODE_ERRORS as error:
        raise RejectedError(f"image does not decode: {first_line(error)}") from error


def require_sound_png(data: bytes) -> None:
    """Compares a PNG with its checksums, which Pillow passes over as it decodes pixels.

    Without this a flipped bit gives other pixels in silence. Other formats have no checksums.

    Raises:
        Exception: one of DECODE_ERRORS, where they differ.
    """
    if data.startswith(PNG_SIGNATURE):
        Image.open(io.BytesIO(data), formats=("PNG",)).verify()


def first_line(error: Exception) -> str:
    """Returns an error's text in one line that does not differ between two runs."""
    if isinstance(error, UnidentifiedImageError):  # Pillow's own text holds a memory address
        return "not an image"
    return str(error).partition("\n")[0] or type(error).__name__


def _has_16_bits(opened: Image.Image) -> bool:
    """Returns whether a channel has more than 8 bits; Pillow opens colour as if it had 8."""
    if opened.mode[0] in "IF":
        return True
    if isinstance(opened, TiffImageFile):
        return bool(max(opened.tag_v2.get(BITSPERSAMPLE, (1,))) > 8)
    # What a PNG's pixels are decoded from, as `RGB;16B`.
    return isinstance(opened, PngImageFile) and any("16" in str(t.args) for t in opened.tile or ())
