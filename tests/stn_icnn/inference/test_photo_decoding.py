"""Photographs in all forms that people have them: by file, image and array, one rule for all."""

import base64
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from stn_icnn.inference.command import main
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.photo_decoding import load_photo

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


def test_a_jpeg_over_the_limit_is_reduced_and_labelled_at_its_own_size(
    tiny_parent: Path, tmp_path: Path
):
    """The labels of the whole and of the reduced are nearly the same."""
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    blocks = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(blocks).resize((301, 220)).save(tmp_path / "in" / "a.jpg", exif=exif)
    whole = FaceParser.load(tiny_parent, "cpu").parse(tmp_path / "in" / "a.jpg")
    assert whole.image.shape == (301, 220, 3)
    parser = FaceParser.load(tiny_parent, "cpu", max_megapixels=0.03)
    face = parser.parse(tmp_path / "in" / "a.jpg")
    assert face.image.shape == (151, 110, 3)
    assert face.labels.shape == (301, 220)
    assert np.allclose(face.windows, whole.windows, atol=3)
    status, out = parsed(tmp_path / "in", tiny_parent, "--max-megapixels", "0.03")
    assert status == 0
    assert Image.open(out / "a.png").size == (220, 301)
    assert Image.open(out / "a_overlay.jpg").size == (110, 151)


def test_what_is_over_the_limit_and_not_reduced_is_told_how(
    tiny_parent: Path, tmp_path: Path, capsys
):
    (tmp_path / "in").mkdir()
    Image.new("1", (5100, 10000)).save(tmp_path / "in" / "a.png")
    assert parsed(tmp_path / "in", tiny_parent)[0] == 1
    said = capsys.readouterr().err
    assert "a.png: image too large: 5100 x 10000 px, more than 50 megapixels" in said
    assert "--max-megapixels 51, with 1.2 GB of memory" in said
    with pytest.raises(ValueError, match="more than 50 megapixels"):
        load_photo(tmp_path / "in" / "a.png")
    assert load_photo(tmp_path / "in" / "a.png", 51).size == (5100, 10000)


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
