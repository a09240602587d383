"""Photographs in all forms that people have them: by file, image and array, one rule for all."""

import base64
import json
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile

from stn_icnn.inference.command import main
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.photos.decoding import load_photo
from stn_icnn.inference.served_model import request_image

WIDTH, HEIGHT = 61, 43


def picture() -> Image.Image:
    """Of coarse blocks, which lossy formats keep nearly."""
    blocks = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(blocks).resize((WIDTH, HEIGHT))


def grey16() -> np.ndarray:
    """`[H, W]` uint16 from black to white."""
    return np.asarray(picture().convert("L")).astype(np.uint16) * 257


def parsed(folder: Path, model: Path, *options: str) -> tuple[int, Path]:
    """The command's exit status, and its output."""
    out = folder.with_name(f"{folder.name}_out")
    return main(["parse", str(folder), "--model", str(model), "--out", str(out), *options]), out


TAKEN = {
    "a.jfif": ("JPEG", 40),
    "b.jpe": ("JPEG", 40),
    "c.mpo": ("MPO", 40),
    "d.gif": ("GIF", 60),
    "e.avif": ("AVIF", 60),
    "f.jp2": ("JPEG2000", 0),
    "g.dib": ("DIB", 0),
    "h.ppm": ("PPM", 0),
    "i.qoi": ("QOI", 0),
    "j.tga": ("TGA", 0),
    "k.jpg": ("AVIF", 60),
    "l.png": ("JPEG2000", 0),
}
"""Names of files, their formats, and by how much a pixel may be another than what was saved."""


def test_formats_that_pillow_reads_are_taken_whatever_the_name(tiny_parent: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    for name, (file_format, tolerance) in TAKEN.items():
        picture().save(tmp_path / "in" / name, file_format)
        pixels = load_photo(tmp_path / "in" / name).pixels.astype(int)
        assert np.abs(pixels - np.asarray(picture())).max() <= tolerance, name
    status, out = parsed(tmp_path / "in", tiny_parent)
    assert status == 0
    for name in TAKEN:
        assert Image.open(out / f"{name[0]}.png").size == (WIDTH, HEIGHT)


def sixteen_bits(kind: str, folder: Path) -> object:
    """A grey photograph of 16 bits, in one of the forms that people have."""
    image = Image.fromarray(grey16())
    if kind == "array":
        return np.repeat(grey16()[:, :, None], 3, axis=2)
    if kind == "image":
        return image
    image.save(folder / f"a.{kind}")
    return folder / f"a.{kind}"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file, with its checksum."""
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def colour_png_of_16_bits(pixels: np.ndarray) -> bytes:
    """Pillow writes none. `pixels`: `[H, W, 3]` uint16."""
    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = {b"IHDR": head, b"IDAT": zlib.compress(rows), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(png_chunk, chunks, chunks.values()))


def test_colour_of_16_bits_is_scaled(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)
    (tmp_path / "a.png").write_bytes(colour_png_of_16_bits(pixels))
    decoded = load_photo(tmp_path / "a.png").pixels
    assert decoded.dtype == np.uint8
    assert np.abs(decoded - pixels / 257).max() <= 1


@pytest.mark.parametrize("kind", ["png", "tif", "pgm", "jp2", "image", "array"])
def test_16_bits_are_scaled(kind: str, tmp_path: Path):
    pixels = load_photo(sixteen_bits(kind, tmp_path)).pixels
    expected = np.asarray(picture().convert("L").convert("RGB"))
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - expected).max() <= (1 if kind == "jp2" else 0)


def test_16_bits_are_scaled_by_the_command_as_in_python(tiny_parent: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    path = sixteen_bits("png", tmp_path / "in")
    status, out = parsed(tmp_path / "in", tiny_parent)
    assert status == 0
    labels = FaceParser.load(tiny_parent, "cpu").parse(path).labels
    assert np.array_equal(np.asarray(Image.open(out / "a.png")), labels)


@pytest.mark.parametrize(
    ("mode", "reason"), [("F", "image of floats: no number is known"), ("I", "image of 32-bit num")]
)
def test_numbers_without_a_known_white_are_refused(
    mode: str, reason: str, tiny_parent: Path, tmp_path: Path, capsys
):
    (tmp_path / "in").mkdir()
    image = picture().convert("L").convert(mode)
    image.save(tmp_path / "in" / "a.tif")
    for photo in (image, tmp_path / "in" / "a.tif"):
        with pytest.raises(ValueError, match=reason):
            load_photo(photo)
    assert parsed(tmp_path / "in", tiny_parent)[0] == 1
    assert f"a.tif: {reason}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            torch.rand(3, 8, 9),
            r"got a tensor \[3, 8, 9\] torch.float32: \[N, 3, H, W\] uint8 is",
        ),
        (["a.jpg"], r"got a list of 1: several photographs are for parse_all$"),
        ([], r"got a list of 0: several photographs are for parse_all$"),
        (None, "got NoneType$"),
        (np.zeros((8, 9, 3)), r"got \[8, 9, 3\] float64: scale numbers from 0 to 1 by 255"),
        (np.zeros((0, 9, 3), np.uint8), r"\[H, W, 3\] uint8 RGB, got \[0, 9, 3\] uint8$"),
    ],
    ids=["tensor", "list", "empty list", "None", "floats", "empty array"],
)
def test_what_is_no_photograph_is_said_in_a_line(given: object, message: str):
    with pytest.raises(ValueError, match=f"a photograph must be .*{message}") as error:
        load_photo(given)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_a_path_where_a_list_belongs_is_named(tiny_parent: Path):
    with pytest.raises(ValueError, match=r"parse_all takes a list of photographs, got 'a\.jpg'"):
        FaceParser.load(tiny_parent, "cpu").parse_all("a.jpg")


def test_a_flipped_bit_of_a_png_is_found(tmp_path: Path):
    """By its checksums: it would give other pixels."""
    picture().save(tmp_path / "a.png", compress_level=0)
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png can't be read .*: image does not decode"):
        load_photo(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_says(orientation: int, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "a.png", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    decoded = load_photo(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels, upright)
    assert decoded.size == upright.shape[1::-1]


HEIC_FACE = """
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAA
AAAAACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAABAsAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAA
AA5waXRtAAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNw
AAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHB
crAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAA
AAABAAEEgQIDBAAABBNtZGF0AAAEBygBrxOAfITzJuSXvxu7c8zG65FehOrnlzI48wmNfFRG/quESnTvxADpxgRX8YNqSdcX
eptGlH9vUn/6AbQ1fGYRPbayTwMZEoQeL4afrslQ05y2s5xsAt4Ij+rmjAn0yWffWBLch0YXdU1aSKNb2hthzbjoaYDh2ULL
ADbD25u3+7QP1hBJavBdGVCgTQBrl2OXwMUrF+cnFPTqCVyssAAATQ4C0HVNks5YD+EfTFvusF8qoIIV7Fq/rB2sWRDU8bRE
7DrbpwA2JGj9OODx8t+nXkzFE56M7x3wYJD/HTlAnCMrZ6BCGJmck0zfdl0OsLXLJCkoFICEnwYeaHG3+wTJecaE3oDk/HEp
7nlYlUrUWGDjpRkCPvr/rVM/x/rvy4iUnlLvvtW0xDVNF8EmpECht8G4FbUejKAsYyA/FO5OMVfnJJhqTK55WTcd2+ZCQe32
92FepFAbSgNVCMw7oopsv8vkBZ8EpLS6VVGoRq5Hm7juFk2RcdE0cJSIbkirKmv0HBvemXjpbXUi/KWPdBgAbpEviT8j3shR
dRShU1f+CtciVP2ufOazh015PxL3YjTPm4d8YKkCNfpb4TTWd9gp2ZzFzVw5xXPDYn7sQ239K1i3qkWJgAo4E0QZHCR0Ogwb
YSUpE5XwwZ4/qEo5sBsQvdQjZCUyvNo2cI4+mktBC/HnqGh/Yl1ECqOz601prT7nd2MboBVTwqy7EJkQMA94RebozWggHQJz
/HzVFjymlCzVkqS6O/I2A1haYo7xmZhsAn7l0WlEx9GnHAdEdAOJFjtyVQ3q30ou6ZmX5OyvFND7TsYuPd1m01fDmLED/PYg
/oX9FtKH5saqRBG00IolX9+iu87IIjC7vRN0nDedHMBT1f4C5o+ddAU6k8CJUw2j8x/LAiroRQCgkpnJZpXST1Nmaiu9ap+2
vPLuuo3APCBQLeB3lORxYyfhMLDTMGPjR9dTRv9ff5aFYlCcii+kFjFdWCLhlFOOzOQbAh9LA2ok1QPTw56Q2fEeP6RQlwpN
Y/YKAKcfvizwVj1f/iWFtjRbdC4QLorcW5loJqt8v9WYRveFlS+wM6xfQjGQbQVGLKCQ66mz5bH4gpNRtZ2MtexL8Gg9P33M
tzyLO/T4qscT/U+pUzSpKUw48F0XDgO1N2Ywfz3gFqlErntmWCN1xZpU1LwC08bSZNHibnE2ZvwTjTuyQNJjL9zOgSS1QOP3
lNMkpfQOTIJ+ULA/Fl5UGj8SGaOl/yCSu8MlC6NB2X9jS1wE/1te92EZarqXum3m99qDW54grWVloglPzXusVULHY8RX8AvJ
LoogeUIusvIpghOesGG7BRBGNecSGJoeTXBWRglCCVrixbqIfm951V//v9Oj
"""
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(range(256)) * 4


def test_heic_is_named_as_heic_with_what_to_do(
    tiny_parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    (tmp_path / "in").mkdir()
    for name in ("phone.heic", "named.jpg"):
        (tmp_path / "in" / name).write_bytes(HEIC)
    picture().save(tmp_path / "in" / "still.heic", "JPEG")
    assert parsed(tmp_path / "in", tiny_parent)[0] == 1
    printed = capsys.readouterr()
    for name in ("phone.heic", "named.jpg"):
        assert f"{name}: image is HEIC: pip install pi-heif, and it is read" in printed.err
    assert json.loads(printed.out)["parsed"] == 1


def test_heic_is_read_where_its_plug_in_is_installed(tmp_path: Path):
    """A procedural face, 64 x 64 px, of which the middle is skin."""
    pytest.importorskip("pi_heif")
    (tmp_path / "phone.heic").write_bytes(base64.b64decode(HEIC_FACE))
    pixels = load_photo(tmp_path / "phone.heic").pixels
    assert pixels.shape == (64, 64, 3)
    assert np.ptp(pixels) > 100


def test_truncated_heic_is_named(tmp_path: Path):
    """At any length; its decoder raises errors of its own."""
    pytest.importorskip("pi_heif")
    content = base64.b64decode(HEIC_FACE)
    path = tmp_path / "phone.heic"
    for length in range(24, len(content) - 1, 29):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"phone\.heic can't be read .*: image "):
            load_photo(path)


def test_what_only_begins_as_heic_is_named_as_heic(tmp_path: Path):
    pytest.importorskip("pi_heif")
    (tmp_path / "a.jpg").write_bytes(HEIC)
    with pytest.raises(ValueError, match="image is HEIC, but does not decode"):
        load_photo(tmp_path / "a.jpg")


def test_a_decoder_s_unforeseen_error_is_of_the_photograph(
    tiny_parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """In Python, as served, and by the command, which parses the others."""

    def fail(image: PngImageFile) -> None:
        raise RuntimeError("a bug of the decoder")

    (tmp_path / "in").mkdir()
    picture().save(tmp_path / "in" / "a.png")
    picture().save(tmp_path / "in" / "b.jpg")
    monkeypatch.setattr(PngImageFile, "load_prepare", fail)
    reason = "image does not decode: RuntimeError: a bug of the decoder"
    with pytest.raises(ValueError, match=rf"a\.png can't be read as a photograph: {reason}"):
        load_photo(tmp_path / "in" / "a.png")
    with pytest.raises(ValueError, match=reason):
        request_image((tmp_path / "in" / "a.png").read_bytes())
    assert parsed(tmp_path / "in", tiny_parent)[0] == 1
    printed = capsys.readouterr()
    assert f"a.png: {reason}" in printed.err
    assert json.loads(printed.out)["parsed"] == 1


def test_a_fifo_is_named_and_does_not_hang(tiny_parent: Path, tmp_path: Path, capsys):
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "x.jpg")
    picture().save(tmp_path / "in" / "a.png")
    assert parsed(tmp_path / "in", tiny_parent)[0] == 1
    assert "x.jpg: image not readable: a pipe, socket or device" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"x\.jpg can't be read .*: a pipe, socket or device"):
        load_photo(tmp_path / "in" / "x.jpg")
    out = str(tmp_path / "out")
    named = ["parse", str(tmp_path / "in" / "x.jpg"), "--model", str(tiny_parent), "--out", out]
    assert main(named) == 2
    assert "x.jpg is a pipe, socket or device, no photograph" in capsys.readouterr().err
