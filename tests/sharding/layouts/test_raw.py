"""Photographs and masks of any kind: what they are read as."""

import io
import random
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharding.layouts.raw import RawPhoto, read_mask, read_photo
from sharding.storage.location import open_location
from stn_icnn.decoding import RejectedError

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


def read_bytes(folder: Path, data: bytes) -> RawPhoto:
    (folder / "x.jpg").write_bytes(data)
    return read_photo(open_location(folder), "x.jpg")


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


def png_file(size: tuple[int, int], bits: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG of a kind that Pillow does not write; each row begins with a byte of 0."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_of_16_bits(colour_type: int, num_channels: int) -> bytes:
    """8 x 8, black; Pillow writes none but grey ones."""
    return png_file((8, 8), 16, colour_type, 8 * bytes(1 + 8 * num_channels * 2))


def png_of_grey_bits(values: np.ndarray, bits: int) -> bytes:
    """Grey of so few bits, as programs that make PNGs small write it; uint8 [H, W]."""
    each = np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(len(values), -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(each, axis=1))
    return png_file(values.shape[::-1], bits, 0, rows)


def tiff_of_16_bits() -> bytes:
    """8 x 8, RGB, black."""
    pixels, bits = bytes(8 * 8 * 3 * 2), struct.pack("<HHH", 16, 16, 16)
    at_bits = 8 + len(pixels)
    short, long = 3, 4
    tags = [
        (256, short, 1, 8),  # width
        (257, short, 1, 8),  # height
        (258, short, 3, at_bits),
        (259, short, 1, 1),  # not compressed
        (262, short, 1, 2),  # RGB
        (273, long, 1, 8),  # where the pixels are
        (277, short, 1, 3),  # channels
        (278, short, 1, 8),  # rows that are there
        (279, long, 1, len(pixels)),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    header = b"II*\0" + struct.pack("<I", at_bits + len(bits))
    return header + pixels + bits + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "data",
    [
        png_of_16_bits(0, 1),
        png_of_16_bits(2, 3),
        png_of_16_bits(4, 2),
        png_of_16_bits(6, 4),
        tiff_of_16_bits(),
    ],
    ids=["grey", "RGB", "LA", "RGBA", "TIFF"],
)
def test_16_bits_are_refused_in_any_colour(tmp_path: Path, data: bytes):
    """Half of them would be cut off."""
    with pytest.raises(RejectedError, match=r"image of 16 bits: mode .*, convert it to 8 bits"):
        read_bytes(tmp_path, data)
    with pytest.raises(RejectedError, match=r"mask of 16 bits: mode .*, convert it to 8 bits"):
        read_mask(open_location(tmp_path), "x.jpg", "nose", (8, 8))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_a_mask_s_shape_is_not_taken_from_its_alpha(tmp_path: Path, mode: str):
    """A nose of the colour around it, cut out by its alpha: in grey, all would be nose."""
    shape = np.zeros((8, 8), np.uint8)
    shape[2:4] = 255
    if mode == "P":
        mask = Image.fromarray(shape // 255)
        mask.putpalette([255] * 6)
        data = encode(mask, "PNG", transparency=0)
    else:
        mask = Image.new(mode, (8, 8), "white")
        mask.putalpha(Image.fromarray(shape))
        data = encode(mask, "PNG")
    (tmp_path / "x.png").write_bytes(data)
    location = open_location(tmp_path)
    with pytest.raises(RejectedError, match="mask with alpha: nose must be opaque, save it in"):
        read_mask(location, "x.png", "nose", (8, 8))
    grey = Image.fromarray(shape)
    (tmp_path / "x.png").write_bytes(encode(grey.convert("LA" if mode == "P" else mode), "PNG"))
    np.testing.assert_array_equal(read_mask(location, "x.png", "nose", (8, 8)), shape)


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
    location = open_location(tmp_path)
    reasons = set()
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 2, 10))):
            at = rng.randrange(rng.choice((60, len(data))))
            damaged[at : at + 1] = rng.randbytes(rng.choice((1, 1, 1, 5)))
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(damaged)) :]
        (tmp_path / "x.jpg").write_bytes(damaged)
        for read in (read_photo, partial(read_mask, part="nose", size=(96, 64))):
            try:
                read(location, "x.jpg")
            except RejectedError as error:
                reasons.add(str(error))
    assert reasons
    assert all(": " in reason and "\n" not in reason for reason in reasons)


def test_mask_that_lacks_its_palette_is_rejected(tmp_path: Path):
    data = encode(picture().convert("RGB").convert("P"), "PNG")
    at = data.index(b"PLTE")
    end = at + 4 + int.from_bytes(data[at - 4 : at]) + 4
    (tmp_path / "x.png").write_bytes(data[: at - 4] + data[end:])
    with pytest.raises(RejectedError, match="mask does not decode: nose"):
        read_mask(open_location(tmp_path), "x.png", "nose", (8, 8))
