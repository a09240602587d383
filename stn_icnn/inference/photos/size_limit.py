"""The limit of a photograph's pixels: a larger JPEG is reduced as it is decoded, others refused."""

import io
from typing import Final

import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from stn_icnn.decoding import RejectedError, open_any_size

BYTES_PER_PIXEL: Final = 24
"""Memory that parsing a photograph takes for each of its pixels, with its overlay, at the most."""

_REDUCTIONS: Final = (2, 4, 8)
"""The factors by which JPEG can be reduced while it is decoded."""


def limit_size(
    image: Image.Image, max_megapixels: float, option: str, *, is_own: bool
) -> Image.Image:
    """Keeps a photograph that is not decoded yet below a number of pixels.

    Args:
        image: an opened image.
        max_megapixels: the most that are decoded.
        option: what stands before that number where the user gives it.
        is_own: whether nobody else has the image. Once reduced, it has another size.

    Returns:
        The image; where it is a larger JPEG file, one of it that is decoded to fewer pixels, by the
        least factor that suffices.

    Raises:
        RejectedError: it has more pixels, which do not take their memory already.
    """
    size = image.size
    if size[0] * size[1] <= 1e6 * max_megapixels or _is_decoded(image):
        return image
    is_jpeg = isinstance(image, JpegImageFile)
    if isinstance(image, JpegImageFile) and _is_first_and_whole(image):
        image = image if is_own else _reopened(image)
        _reduce(image, max_megapixels)
    megapixels = image.width * image.height / 1e6
    if megapixels <= max_megapixels:
        return image
    cure = "" if is_jpeg else "save it as JPEG, which is reduced, or "
    raise RejectedError(
        f"image too large: {size[0]} x {size[1]} px, more than {max_megapixels:g} megapixels: "
        f"{cure}allow it by {option}{np.ceil(megapixels):g}, "
        f"with {megapixels * BYTES_PER_PIXEL / 1e3:.1f} GB of memory"
    )


def _is_decoded(image: Image.Image) -> bool:
    """Tells whether an image is no file, or one of which it is known that it is decoded."""
    if isinstance(image, JpegImageFile):
        return not image.tile
    return not isinstance(image, ImageFile.ImageFile)


def _is_first_and_whole(image: JpegImageFile) -> bool:
    """Tells whether an image is the first of its file, and is not to be reduced yet."""
    return image.tell() == 0 and not image.decoderconfig


def _reopened(image: JpegImageFile) -> JpegImageFile:
    if image.fp is None:
        raise ValueError("its file is closed")
    image.fp.seek(0)
    reopened = open_any_size(io.BytesIO(image.fp.read()), ("JPEG",))
    assert isinstance(reopened, JpegImageFile)
    return reopened


def _reduce(image: JpegImageFile, max_megapixels: float) -> None:
    """Has a JPEG file reduced while it is decoded, by the least factor that suffices."""
    width, height = image.size
    reduced = {factor: -(-width // factor) * -(-height // factor) for factor in _REDUCTIONS}
    factor = next((f for f in _REDUCTIONS if reduced[f] <= 1e6 * max_megapixels), _REDUCTIONS[-1])
    # Once: Pillow ignores a second call.
    image.draft(None, (max(1, width // factor), max(1, height // factor)))
