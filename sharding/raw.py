"""What a reader of a raw data set gives: items in a split's order, and decoded samples."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from sharding.manifest import Scale
from sharding.storage import Place

IMAGE_FILTER: Final = Image.Resampling.LANCZOS
"""Reduces photographs: antialiased, and of Pillow's filters it keeps most of a lash or lip line."""

DECODE_ERRORS: Final = (
    OSError,
    SyntaxError,  # Pillow's word for a broken PNG chunk
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class RejectedError(Exception):
    """An image or mask that cannot be used; the text is the reason given in the manifest."""


@dataclass(frozen=True)
class Item:
    """One image of the raw data set.

    Attributes:
        key: names the sample in its shard.
        source: the image's path relative to the raw root.
        split: `train`, `val` or `test`.
    """

    key: str
    source: str
    split: str


@dataclass(frozen=True, eq=False)
class RawSample:
    """One decoded image with its labels, at the working scale.

    Attributes:
        image: RGB, [H, W].
        jpeg: the original file where it is an RGB JPEG that needed no change, else None.
        labels: uint8 [H, W], canonical class ids.
        original_size: (width, height) of the raw image, upright.
    """

    image: Image.Image
    jpeg: bytes | None
    labels: NDArray[np.uint8]
    original_size: tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """How one raw data set is listed and read.

    Attributes:
        name: `dataset` in the manifest.
        scale: the working scale its images are brought to.
        split_items: (source, rule, seed) -> the items of each split, in order.
        read: (source, item) -> the sample; raises RejectedError.
    """

    name: str
    scale: Scale
    split_items: Callable[[Place, str, int], dict[str, list[Item]]]
    read: Callable[[Place, Item], RawSample]


def read_photo(source: Place, path: str) -> tuple[Image.Image, bytes | None]:
    """Decodes a photograph upright in RGB, whatever its extension says it is.

    Returns:
        The RGB image, and the file's bytes where they are an RGB JPEG that is upright as it stands.
    """
    data = _read_bytes(source, path)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            is_upright = opened.getexif().get(ExifTags.Base.Orientation, 1) == 1
            untouched = opened.format == "JPEG" and opened.mode == "RGB" and is_upright
            return upright.convert("RGB"), data if untouched else None
    except DECODE_ERRORS as error:
        raise RejectedError(f"cannot decode {path}: {_first_line(error)}") from error


def read_grey(source: Place, path: str) -> NDArray[np.uint8]:
    """Decodes a mask of any mode as greyscale, uint8 [H, W]; FileNotFoundError if there is none."""
    data = source.read(path)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return np.asarray(opened.convert("L"))
    except DECODE_ERRORS as error:
        raise RejectedError(f"cannot decode {path}: {_first_line(error)}") from error


def _read_bytes(source: Place, path: str) -> bytes:
    try:
        data = source.read(path)
    except FileNotFoundError as error:
        raise RejectedError(f"no image at {path}") from error
    if not data:
        raise RejectedError(f"{path} is empty")
    return data


def _first_line(error: Exception) -> str:
    """The error in one line."""
    # Pillow's own text holds a memory address; the manifest must not differ between two runs.
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return str(error).partition("\n")[0] or type(error).__name__
