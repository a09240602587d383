"""Decoding photographs to 8-bit RGB: the formats that are read, 16 bits, HEIC, very large ones.

Command, job, Python and served models all decode here, by one rule.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError, features
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from stn_icnn.decoding import (
    DECODE_ERRORS,
    ImageRules,
    RejectedError,
    described,
    first_line,
    open_image,
    read_image_file,
    require_sound_png,
)
from stn_icnn.inference.photos.size_limit import limit_size
from stn_icnn.storage import Folder

PhotoFile = Image.Image | NDArray[np.uint8] | NDArray[np.uint16] | str | Path
"""A photograph: an opened image, `[H, W, 3]` RGB of 8 or 16 bits, or a file."""

FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    "PNG": (".apng", ".png"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"),
    "DIB": (".dib",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "QOI": (".qoi",),
    "TGA": (".tga",),  # the last, as its files have no mark
}
"""The ends of photographs' names, in small letters, by Pillow's name of the format. A file is read
as what it is, whatever its name."""

HEIC_SUFFIXES: Final = (".heic", ".heif", ".hif")
"""The ends of the names of HEIC files, which phones write and Pillow alone does not read."""

PHOTO_SUFFIXES: Final = tuple(sorted({s for of in FORMATS.values() for s in of} | {*HEIC_SUFFIXES}))
"""The ends of photographs' names, in small letters."""

DEFAULT_MEGAPIXELS: Final = 50
"""The most megapixels of a photograph that is decoded whole, where no other number is given."""

SMALL_PX: Final = 1024
"""The longer side of a photograph's small copy, px, at least: a model sees faces of no more."""

_TURNS: Final[Mapping[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels[::-1].transpose(1, 0, 2),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels[:, ::-1].transpose(1, 0, 2),
}
"""How pixels are turned upright, by the EXIF orientation that they are stored in."""

_BAND_PIXELS: Final = 1_000_000

_BLOCK_BYTES: Final = 64 << 20  # above glibc's highest threshold, 32 MB

_RULES: Final = ImageRules(formats=tuple(FORMATS), max_megapixels=None, accepts_16_bits=True)
_HEIC_RULES: Final = ImageRules(formats=("HEIF",), max_megapixels=None, accepts_16_bits=True)

_HEIC_BRANDS: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs")
_SHARED_BRANDS: Final = (b"mif1", b"msf1")
"""The brands of a box file that tell HEIC, and those that AVIF has as well."""


@dataclass(frozen=True, eq=False)
class DecodedPhoto:
    """A photograph's pixels, upright."""

    pixels: NDArray[np.uint8]
    """`[h, w, 3]` RGB: the whole photograph, or a reduced copy of a very large one."""
    size: tuple[int, int]
    """(W, H) of the whole photograph, px."""

    @property
    def reduction(self) -> int:
        """How many pixels each way one of `small` is the average of."""
        height, width = self.pixels.shape[:2]
        return int(max(1, max(height, width) // SMALL_PX))

    @cached_property
    def small(self) -> NDArray[np.uint8]:
        """`[h, w, 3]`: the pixels, averaged to a longer side of SMALL_PX to twice as much where
        they are more."""
        if self.reduction == 1:
            return self.pixels
        return np.array(Image.fromarray(self.pixels).reduce(self.reduction))


@dataclass(frozen=True, eq=False)
class OpenedPhoto:
    """A photograph that can be decoded, as far as its head tells."""

    image: Image.Image
    size: tuple[int, int]
    """(W, H) as it is stored, px."""
    is_own: bool
    """Whether nobody else has the opened image, which may then be closed."""

    @property
    def num_pixels(self) -> int:
        """The number of pixels that it will be decoded to, or half of its own where that is more:
        a reduced one has a whole label map."""
        return max(self.image.width * self.image.height, self.size[0] * self.size[1] // 2)

    def decode(self) -> DecodedPhoto:
        """Decodes it: upright as its EXIF says, in RGB of 8 bits.

        Raises:
            RejectedError: it does not decode, or its numbers have no known white.
        """
        with _rejecting_damage():
            self.image.load()
            orientation = self.image.getexif().get(ExifTags.Base.Orientation, 1)
            image = _with_8_bits(self.image)
            pixels = _pixels(image if image.mode == "RGB" else image.convert("RGB"))
            if orientation not in _TURNS:
                return DecodedPhoto(pixels, self.size)
            if self.is_own:
                self.image.close()  # else its pixels would be in memory twice
            turned = np.ascontiguousarray(_TURNS[orientation](pixels))
            return DecodedPhoto(turned, self.size[::-1] if orientation >= 5 else self.size)


def open_photo(
    source: bytes | Image.Image,
    max_megapixels: float = DEFAULT_MEGAPIXELS,
    option: str = "max_megapixels=",
) -> OpenedPhoto:
    """Opens a photograph; its pixels are not decoded yet.

    Args:
        source: a file's content, or an image that is open already.
        max_megapixels: the most that are decoded. A larger JPEG file will be reduced while it is
            decoded, by as little as brings it below.
        option: what stands before that number where the user gives it.

    Raises:
        RejectedError: it is no photograph of a format that is read, or too large.
    """
    with _rejecting_damage():
        if isinstance(source, bytes):
            image = _open_heic(source) if _require_readable(source) else open_image(source, _RULES)
            require_sound_png(source)
        else:
            image = source
        size = image.size
        image = limit_size(image, max_megapixels, option, is_own=isinstance(source, bytes))
    return OpenedPhoto(image, size, is_own=image is not source)


def load_photo(
    photo: PhotoFile | DecodedPhoto, max_megapixels: float = DEFAULT_MEGAPIXELS
) -> DecodedPhoto:
    """Decodes a photograph in any of the forms that Python users have; a decoded one is left.

    Raises:
        ValueError: it cannot be read, has no such form, or an array has another shape or type.
    """
    if isinstance(photo, DecodedPhoto):
        return photo
    if isinstance(photo, np.ndarray):
        return _decoded_array(photo)
    if not isinstance(photo, str | Path | Image.Image):
        raise ValueError(_no_photograph(photo))
    try:
        if isinstance(photo, Image.Image):
            return open_photo(photo, max_megapixels).decode()
        folder, name = Folder(Path(photo).parent), Path(photo).name
        return open_photo(read_image_file(folder, name), max_megapixels).decode()
    except RejectedError as error:
        given = f"a PIL image of mode {photo.mode}" if isinstance(photo, Image.Image) else photo
        raise ValueError(f"{given} can't be read as a photograph: {error}") from error


def use_large_blocks() -> None:
    """Has Pillow of this process take memory in blocks that go back to the system once freed.

    Of blocks of its usual size, 16 MB, each thread's share of the heap keeps some hundred MB.
    """
    Image.core.set_block_size(_BLOCK_BYTES)  # type: ignore[attr-defined]


@contextmanager
def _rejecting_damage() -> Iterator[None]:
    """Turns whatever is raised for a photograph into a RejectedError, whose cause it is: decoders
    raise errors that nobody foresaw."""
    try:
        yield
    except RejectedError:
        raise
    except Exception as error:
        reason = first_line(error) if isinstance(error, DECODE_ERRORS) else described(error)
        raise RejectedError(f"image does not decode: {reason}") from error


def _decoded_array(photo: NDArray[np.uint8] | NDArray[np.uint16]) -> DecodedPhoto:
    """Takes an array for a photograph; one of 16 bits is scaled.

    Raises:
        ValueError: it has another shape or type.
    """
    fits = photo.ndim == 3 and photo.shape[2] == 3 and photo.size > 0
    if not fits or photo.dtype not in (np.uint8, np.uint16):
        hint = ""
        if photo.dtype.kind == "f":
            hint = ": scale numbers from 0 to 1 by 255, then .round().astype(np.uint8)"
        elif fits:
            hint = ", or uint16, which is scaled to 8 bits"
        raise ValueError(
            f"a photograph must be [H, W, 3] uint8 RGB, got {list(photo.shape)} {photo.dtype}{hint}"
        )
    pixels = photo if photo.dtype == np.uint8 else _scaled(photo, np.iinfo(np.uint16).max)
    # As torch wants it.
    return DecodedPhoto(
        np.require(pixels, requirements=["C", "W"]), (photo.shape[1], photo.shape[0])
    )


def _no_photograph(given: object) -> str:
    """Says what an object is that is no photograph, without its values, and what to do."""
    kind, hint = type(given).__name__, ""
    if hasattr(given, "permute"):
        kind = f"a tensor {list(getattr(given, 'shape', ()))} {getattr(given, 'dtype', '')}"
        hint = ": [N, 3, H, W] uint8 is for parse_tensor"
    elif isinstance(given, list | tuple):
        kind, hint = f"a {kind} of {len(given)}", ": several photographs are for parse_all"
    return f"a photograph must be a path, a PIL image or a [H, W, 3] uint8 array, got {kind}{hint}"


def _require_readable(content: bytes) -> bool:
    """Tells whether a file is HEIC, for which the plug-in is then registered.

    Raises:
        RejectedError: it is of a format that this installation does not read, with what to do.
    """
    if content[4:8] != b"ftyp":
        return False
    brand, others = content[8:12], content[16 : int.from_bytes(content[:4])]
    is_avif = brand in (b"avif", b"avis") or b"avif" in others
    if is_avif and not features.check("avif"):
        raise RejectedError("image is AVIF: this Pillow does not read it, save it as JPEG or PNG")
    if is_avif or brand not in (*_HEIC_BRANDS, *_SHARED_BRANDS):
        return False
    try:
        import pi_heif
    except ImportError as error:
        raise RejectedError(
            "image is HEIC: pip install pi-heif, and it is read, or save it as JPEG"
        ) from error
    pi_heif.register_heif_opener()
    return True


def _open_heic(content: bytes) -> Image.Image:
    """Opens a HEIC file.

    Raises:
        RejectedError: it is damaged.
    """
    try:
        return open_image(content, _HEIC_RULES)
    except UnidentifiedImageError as error:
        raise RejectedError("image is HEIC, but does not decode") from error


def _with_8_bits(image: Image.Image) -> Image.Image:
    """Scales the channel of an opened image to 8 bits; colour is opened with 8 bits already.

    Raises:
        RejectedError: it is not known which number is white.
    """
    if image.mode == "F":
        raise RejectedError("image of floats: no number is known to be white, save it with 8 bits")
    if not image.mode.startswith("I"):
        return image
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # whose 16 bits may be so opened
        raise RejectedError(
            "image of 32-bit numbers: none is known to be white, save it with 8 or 16 bits"
        )
    bits = 16
    if isinstance(image, TiffImageFile):
        bits = max(image.tag_v2.get(BITSPERSAMPLE, (bits,)))
    return Image.fromarray(_scaled(np.asarray(image), 2**bits - 1))


def _scaled(values: NDArray[np.generic], white: int) -> NDArray[np.uint8]:
    """Scales whole numbers from 0 to white to 0 to 255, rounded."""
    scaled = (values.astype(np.uint32) * 255 + white // 2) // white
    return scaled.clip(0, 255).astype(np.uint8)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Copies the pixels of an RGB image, `[H, W, 3]`, in bands: at once it would take thrice the
    memory."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels
