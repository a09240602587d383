import base64
import io

import numpy as np
import pytest
from PIL import Image

from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.served_model import answer_images, request_image

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


def png(pixels: np.ndarray = PIXELS) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "image",
    [
        png(),
        text(png()),
        "data:image/png;base64," + text(png()),
        base64.encodebytes(png()).decode(),  # in lines
        PIXELS,
        PIXELS.tolist(),
    ],
    ids=["bytes", "base64", "data URL", "lines", "array", "lists"],
)
def test_every_form_of_a_photograph_gives_its_pixels(image):
    assert np.array_equal(request_image(image).pixels, PIXELS)


def test_a_photograph_is_turned_upright():
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(file, "PNG", exif=exif)
    assert np.array_equal(request_image(file.getvalue()).pixels, np.rot90(PIXELS, -1))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("no photograph!", "a text must be an image file in base64"),
        (text(b"text"), "image does not decode: not an image"),
        (png(np.zeros((8000, 7000, 3), np.uint8)), "image too large: .* by max_megapixels=56, "),
        (PIXELS[..., 0], r"must be \[H, W, 3\] uint8 RGB, got \[7, 5\] uint8"),
        ([[[0, 0, 256]]], "pixels must be whole numbers from 0 to 255"),
        ([[[0.5, 0, 0]]], "pixels must be whole numbers from 0 to 255"),
        ([[[0, 0, 0]], [[0, 0]]], "got lists of unequal lengths"),
        ([], "pixels must be whole numbers"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_photograph_is_refused_with_its_place(image, message, tiny_parent):
    parser = FaceParser.load(tiny_parent, "cpu")
    with pytest.raises(ValueError, match=f"image 1 of 2 .from 0.: .*{message}"):
        answer_images(parser, [PIXELS, image])


def test_the_limit_for_photographs_is_the_parser_s(tiny_parent):
    parser = FaceParser.load(tiny_parent, "cpu", max_megapixels=30e-6)
    with pytest.raises(ValueError, match="5 x 7 px, more than 3e-05 megapixels"):
        answer_images(parser, [png()])
