"""Images of raw data sets: what is accepted, and how it is decoded."""

import errno
import io

import numpy as np
import pytest
from PIL import Image

from stn_icnn.decoding import (
    STRICT,
    MissingFileError,
    RejectedError,
    decode_photo,
    open_image,
    read_image_file,
)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def picture() -> Image.Image:
    """6 x 4 px, no two alike."""
    return Image.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3))


def test_a_photograph_is_upright_and_rgb():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter to be shown
    stored = picture().transpose(Image.Transpose.ROTATE_90)
    data = encoded(stored.convert("RGBA"), "PNG", exif=exif)
    image = decode_photo(data, STRICT)
    assert (image.mode, image.size) == ("RGB", (6, 4))
    assert image.format is None
    np.testing.assert_array_equal(np.asarray(image), np.asarray(picture()))


def test_what_needed_no_change_keeps_its_format():
    assert decode_photo(encoded(picture(), "JPEG"), STRICT).format == "JPEG"
    assert decode_photo(encoded(picture().convert("L"), "JPEG"), STRICT).format is None


@pytest.mark.parametrize(
    ("image", "file_format", "reason"),
    [
        (picture(), "EPS", "image does not decode: not an image"),
        (picture(), "JPEG2000", "image does not decode: not an image"),
        (Image.new("I;16", (6, 4), 300), "PNG", "image of 16 bits: mode I;16, convert it to 8"),
        (Image.new("F", (6, 4), 0.5), "TIFF", "image of 16 bits: mode F, convert it to 8 bits"),
        (
            Image.new("1", (5001, 10000)),
            "PNG",
            "image too large: 5001 x 10000 px, more than 50 megapixels: scale all files of the fac",
        ),
    ],
    ids=["program", "JPEG 2000", "16 bits", "float", "large"],
)
def test_what_might_be_read_otherwise_than_it_was_meant_is_refused(
    image: Image.Image, file_format: str, reason: str
):
    with pytest.raises(RejectedError, match=reason):
        decode_photo(encoded(image, file_format), STRICT)


def test_the_rules_decide_what_is_too_large_and_not_pillow(monkeypatch: pytest.MonkeyPatch):
    """What Pillow takes for an attack is opened, and refused by its size alone."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert open_image(encoded(picture(), "PNG"), STRICT, "mask").size == (6, 4)
    large = encoded(Image.new("1", (5001, 10000)), "PNG")
    with pytest.raises(RejectedError, match=r"mask too large: 5001 x 10000 px, more than 50 mega"):
        open_image(large, STRICT, "mask")
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_gif_that_pillow_takes_for_an_attack_is_refused(monkeypatch: pytest.MonkeyPatch):
    """Opening it takes the memory of its first picture."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(RejectedError, match=r"mask too large: Image size .* exceeds limit"):
        open_image(encoded(picture(), "GIF"), STRICT, "mask")


class Broken:
    """A disk that answers with an error, or with nothing."""

    def __init__(self, error: OSError | None) -> None:
        self.error = error

    def read(self, path: str) -> bytes:
        if self.error:
            raise self.error
        return b""


def test_a_file_s_own_fault_is_a_reason_and_a_disk_s_is_none():
    for error, reason in (
        (None, "mask empty: a file of 0 bytes"),
        (PermissionError(13, "Permission denied"), "mask not readable: Permission denied"),
        (IsADirectoryError(21, "Is a directory"), "mask not readable: Is a directory"),
        (FileNotFoundError(40, "lost link"), "mask not readable: lost link"),
        (OSError(errno.EFBIG, "over 2 GB"), "mask not readable: over 2 GB"),
    ):
        with pytest.raises(RejectedError, match=reason):
            read_image_file(Broken(error), "x.png", "mask")
    with pytest.raises(MissingFileError, match="mask missing"):
        read_image_file(Broken(FileNotFoundError(2, "No such file")), "x.png", "mask")
    with pytest.raises(OSError, match="Input/output error"):
        read_image_file(Broken(OSError(5, "Input/output error")), "x.png", "mask")
