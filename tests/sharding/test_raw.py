"""Photographs and masks of any kind: what they are read as."""

import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharding.raw import Photo, RejectedError, read_grey, read_photo
from sharding.storage import open_place

T = Image.Transpose
STORED_AS = {  # EXIF orientation -> what the camera did to the upright picture
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}


def picture() -> Image.Image:
    """Four colours in four corners, 96 x 64, an alpha channel over them."""
    rgb = np.zeros((64, 96, 3), np.uint8)
    rgb[:32, :48], rgb[:32, 48:] = (200, 40, 40), (40, 200, 40)
    rgb[32:, :48], rgb[32:, 48:] = (40, 40, 200), (220, 220, 220)
    image = Image.fromarray(rgb)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def read_bytes(folder: Path, data: bytes) -> Photo:
    (folder / "x.jpg").write_bytes(data)
    return read_photo(open_place(folder), "x.jpg")


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("RGB", "BMP"),
        ("P", "GIF"),
        ("RGBA", "WEBP"),
        ("CMYK", "TIFF"),
    ],
)
def test_any_kind_is_used_as_rgb(tmp_path: Path, mode: str, file_format: str):
    """Under a JPEG's name; what is transparent keeps its colour."""
    expected = picture().convert("RGB").convert(mode, dither=Image.Dither.NONE)
    stored = picture().convert(mode) if "A" in mode else expected
    found = read_bytes(tmp_path, encode(stored, file_format, quality=95))
    assert found.jpeg is None
    assert (found.image.mode, found.image.size) == ("RGB", (96, 64))
    corners = [(24, 16), (72, 16), (24, 48), (72, 48)]
    np.testing.assert_allclose(
        [found.image.getpixel(corner) for corner in corners],
        [expected.convert("RGB").getpixel(corner) for corner in corners],
        atol=4,
    )


@pytest.mark.parametrize("orientation", STORED_AS)
def test_exif_rotation_is_honoured(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = picture().convert("RGB")
    stored = upright.transpose(STORED_AS[orientation])
    found = read_bytes(tmp_path, encode(stored, "JPEG", quality=95, subsampling=0, exif=exif))
    assert found.jpeg is None
    assert found.image.size == upright.size
    difference = np.asarray(found.image, int) - np.asarray(upright, int)
    assert np.abs(difference).mean() < 3


def test_upright_rgb_jpeg_is_kept_byte_for_byte(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 1
    data = encode(picture().convert("RGB"), "JPEG", exif=exif)
    assert read_bytes(tmp_path, data).jpeg == data


def test_a_program_is_not_run(tmp_path: Path):
    """PostScript, which Pillow would hand to Ghostscript, is no photograph."""
    with pytest.raises(RejectedError, match="image does not decode: not an image"):
        read_bytes(tmp_path, encode(picture().convert("RGB"), "EPS"))


def test_nonsense_in_exif_is_a_reason_and_no_crash(tmp_path: Path):
    """A camera's maker that is a number: Pillow stumbles over it when it turns the picture."""
    maker = struct.pack("<HHIf", 0x010F, 11, 1, 1.5)
    orientation = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + maker + orientation + bytes(4)
    with pytest.raises(RejectedError, match="image does not decode: "):
        read_bytes(tmp_path, encode(picture().convert("RGB"), "JPEG", exif=exif))


@pytest.mark.filterwarnings("ignore")  # Pillow's, of broken EXIF
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
def test_any_damage_is_a_reason_and_no_crash(tmp_path: Path, file_format: str):
    """300 times: some bytes changed, added or cut off."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture().convert("RGB"), file_format, exif=exif)
    rng = random.Random(0)
    place = open_place(tmp_path)
    reasons = set()
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 2, 10))):
            at = rng.randrange(rng.choice((60, len(data))))
            damaged[at : at + 1] = rng.randbytes(rng.choice((1, 1, 1, 5)))
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(damaged)) :]
        (tmp_path / "x.jpg").write_bytes(damaged)
        for read in (read_photo, lambda place, path: read_grey(place, path, "nose")):
            try:
                read(place, "x.jpg")
            except RejectedError as error:
                reasons.add(str(error))
    assert reasons
    assert all(": " in reason and "\n" not in reason for reason in reasons)
