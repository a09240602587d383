"""Photographs that are very large, or of a few pixels, and label maps of such."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stn_icnn.inference.command import main
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.photos.decoding import load_photo
from stn_icnn.label_sets import PAPER9
from stn_icnn.reporting.overlay import palette_image
from tests.stn_icnn.inference.photos.test_decoding import parsed, picture, png_chunk


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


@pytest.mark.parametrize(
    ("megapixels", "size"),
    [(0.07, (301, 220)), (0.02, (151, 110)), (0.005, (76, 55)), (0.002, (38, 28))],
)
@pytest.mark.parametrize("form", ["file", "image"])
def test_a_jpeg_is_reduced_by_as_little_as_suffices(
    megapixels: float, size: tuple[int, int], form: str, tmp_path: Path
):
    """An opened image of it as well, which stays as large as it is for its owner."""
    picture().resize((301, 220)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        decoded = load_photo(image if form == "image" else tmp_path / "a.jpg", megapixels)
        assert image.size == (301, 220)
        assert np.asarray(image).shape == (220, 301, 3)
    assert decoded.pixels.shape == (*size[::-1], 3)
    assert decoded.size == (301, 220)


def test_a_jpeg_that_is_too_large_when_reduced_is_not_told_to_be_saved_as_jpeg(tmp_path: Path):
    picture().resize((301, 220)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"than 0\.001 megapixels: allow it by max_megapixels=1, "):
        load_photo(tmp_path / "a.jpg", 0.001)


def test_an_image_that_is_decoded_has_its_memory_already(tmp_path: Path):
    picture().resize((301, 220)).save(tmp_path / "a.jpg")
    image = Image.open(tmp_path / "a.jpg")
    image.load()
    assert load_photo(image, 0.01).pixels.shape == (220, 301, 3)


def test_pillow_s_suspicion_of_large_photographs_is_not_asked(
    tiny_parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """Beyond it JPEG is reduced, and others are told how, as beyond the limit for photographs."""
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.png"):
        picture().resize((301, 220)).save(tmp_path / "in" / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    status, out = parsed(tmp_path / "in", tiny_parent, "--max-megapixels", "0.03")
    assert status == 1
    said = capsys.readouterr().err
    assert (
        "b.png: image too large: 301 x 220 px, more than 0.03 megapixels: save it as JPEG" in said
    )
    assert "--max-megapixels 1, with" in said
    assert "a.jpg" not in said
    monkeypatch.undo()
    assert Image.open(out / "a.png").size == (301, 220)


def test_an_earlier_label_map_is_known_though_it_is_damaged_or_over_a_limit(
    tiny_parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """By its palette, for which its pixels are not decoded."""
    (tmp_path / "in").mkdir()
    pixels = np.zeros((220, 301), np.uint8)
    palette_image(pixels, PAPER9).save(tmp_path / "in" / "large.png")
    short = palette_image(pixels[:40, :40], PAPER9)
    (tmp_path / "in" / "short.png").write_bytes(with_half_the_pixels(short))
    picture().save(tmp_path / "in" / "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    assert parsed(tmp_path / "in", tiny_parent, "--max-megapixels", "0.03")[0] == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["parsed"], result["passed_over"]) == (1, {"label map or overlay": 2})


def with_half_the_pixels(image: Image.Image) -> bytes:
    """A PNG file whose checksums are right and whose pixels are cut off."""
    file = io.BytesIO()
    image.save(file, "PNG")
    head, rest = file.getvalue().split(b"IDAT")
    length = int.from_bytes(head[-4:])
    return head[:-4] + png_chunk(b"IDAT", rest[: length // 2]) + png_chunk(b"IEND", b"")


def test_a_palette_png_that_lacks_pixels_is_named(tiny_parent: Path, tmp_path: Path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "short.png").write_bytes(with_half_the_pixels(picture().convert("P")))
    picture().save(tmp_path / "in" / "whole.png")
    assert parsed(tmp_path / "in", tiny_parent)[0] == 1
    printed = capsys.readouterr()
    assert "short.png: image does not decode: " in printed.err
    assert json.loads(printed.out)["parsed"] == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 3), (4, 4), (5, 5), (1, 90)])
def test_pictures_of_few_pixels_are_parsed(
    size: tuple[int, int], tiny_parent: Path, tmp_path: Path
):
    (tmp_path / "in").mkdir()
    picture().resize(size).save(tmp_path / "in" / "a.png")
    status, out = parsed(tmp_path / "in", tiny_parent)
    assert status == 0
    assert Image.open(out / "a.png").size == size
    assert Image.open(out / "a_overlay.jpg").size == size


def test_what_is_over_the_limit_and_not_reduced_is_told_how(
    tiny_parent: Path, tmp_path: Path, capsys
):
    (tmp_path / "in").mkdir()
    Image.new("1", (5100, 10000)).save(tmp_path / "in" / "a.png")
    assert parsed(tmp_path / "in", tiny_parent)[0] == 1
    said = capsys.readouterr().err
    assert "a.png: image too large: 5100 x 10000 px, more than 50 megapixels" in said
    assert "--max-megapixels 51, with 1.2 GB of memory" in said
    with pytest.raises(ValueError, match=r"than 50 megapixels: save .* by max_megapixels=51, with"):
        load_photo(tmp_path / "in" / "a.png")
    assert load_photo(tmp_path / "in" / "a.png", 51).size == (5100, 10000)


def test_help_says_what_the_limit_is_of_and_what_it_costs(capsys):
    with pytest.raises(SystemExit):
        main(["parse", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "the most megapixels that are decoded of a photograph; each takes 24 MB of memory" in said
    )
    assert "larger JPEGs are reduced (default: 50)" in said
