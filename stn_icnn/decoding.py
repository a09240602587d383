"""Opening image files: which are accepted, how they are decoded, and what may go wrong."""

import errno
import io
import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Final, Protocol

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
    (
        *(errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR),
        *(errno.ELOOP, errno.ENXIO, errno.EFBIG),
    )
)
"""The numbers of errors that are one file's fault. What a bucket refuses has no number: a lack of
rights there is a lack for every file."""

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

_PILLOW_LIMIT: Final = threading.Lock()
"""Held while Pillow's own limit of an image's pixels, one number of the process, is changed."""


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

    formats: tuple[str, ...]
    """Pillow's names of the file formats."""
    max_megapixels: int | None
    """The most millions of pixels. None: any number."""
    accepts_16_bits: bool
    """Whether channels of 16 or 32 bits are accepted; Pillow cuts what is above 255 to 255, or off
    the lower half of the bits."""


STRICT: Final = ImageRules(
    formats=("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"),
    max_megapixels=50,  # a larger one would take the memory of several workers
    accepts_16_bits=False,
)
"""The rules for raw data sets, by which nothing is read otherwise than it was meant. Photographs
that are parsed have rules of their own, in `inference/photos/decoding.py`."""


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


def open_any_size(file: IO[bytes], formats: Sequence[str]) -> Image.Image:
    """Opens an image file, though Pillow may suspect an attack by its size; nothing is decoded.

    Args:
        file: the image file.
        formats: Pillow's names of the formats that are read.

    Raises:
        Exception: one of DECODE_ERRORS, where Pillow cannot read it.
    """
    # The memory of a GIF's first picture is taken as it is opened.
    if file.read(4) == b"GIF8":
        return Image.open(file, formats=tuple(formats))
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=tuple(formats))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def allow_megapixels(max_megapixels: float) -> None:
    """Raises Pillow's own limit of this process, beyond which it suspects an attack, to this."""
    with _PILLOW_LIMIT:
        if Image.MAX_IMAGE_PIXELS is not None:
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, int(1e6 * max_megapixels))


def open_image(content: bytes, rules: ImageRules, what: str = "image") -> Image.Image:
    """Opens an image; its pixels are not decoded yet.

    Args:
        content: an image file's.
        rules: which images are accepted.
        what: `image` or `mask`, with which a reason begins.

    Raises:
        RejectedError: the rules refuse it.
        Exception: one of DECODE_ERRORS, where Pillow cannot read it.
    """
    try:
        opened = open_any_size(io.BytesIO(content), rules.formats)
    except Image.DecompressionBombError as error:
        raise RejectedError(f"{what} too large: {first_line(error)}") from error
    limit = rules.max_megapixels
    if limit is not None and opened.width * opened.height > 1_000_000 * limit:
        raise RejectedError(
            f"{what} too large: {opened.width} x {opened.height} px, more than {limit} megapixels: "
            "scale all files of the face down"
        )
    if not rules.accepts_16_bits and _has_16_bits(opened):
        raise RejectedError(f"{what} of 16 bits: mode {opened.mode}, convert it to 8 bits")
    return opened


def decode_photo(content: bytes, rules: ImageRules) -> Image.Image:
    """Decodes a photograph: upright as its EXIF says, in RGB.

    Args:
        content: an image file's.
        rules: which photographs are accepted.

    Returns:
        The image, which has a `format` only where it is upright and RGB as it stands, and so was
        neither turned nor converted.

    Raises:
        RejectedError: the rules refuse it, or it does not decode; Pillow's error is its cause.
    """
    try:
        image = open_image(content, rules)
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
        open_any_size(io.BytesIO(data), ("PNG",)).verify()


def described(error: Exception) -> str:
    """Returns an error's type and text in one line."""
    return f"{type(error).__name__}: {first_line(error)}"


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
