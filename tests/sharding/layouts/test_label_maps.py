"""Label maps: what ids and colours are taken for, and what is refused rather than guessed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharding.layouts.label_maps import (
    labels_by_ids,
    labels_by_ids_or_colours,
    read_label_map,
    reduced,
)
from sharding.storage.location import open_location
from stn_icnn.decoding import RejectedError
from stn_icnn.label_set_file import label_set_from_content
from stn_icnn.label_sets import PAPER9
from tests.sharding.layouts.test_raw import png_of_grey_bits

COLOURS = [(0, 0, 0), (200, 0, 0), (0, 200, 0), (255, 255, 255)]
LABELS = label_set_from_content(
    {
        "name": "mine",
        "classes": [
            {"name": name, "colour": list(colour)}
            for name, colour in zip(("background", "nose", "lips", "glint"), COLOURS, strict=True)
        ],
        "parts": [{"name": "nose", "classes": ["nose"]}],
    }
)
IDS = np.array([[0, 1, 2], [3, 3, 1]], np.uint8)


def palette_image(ids: np.ndarray, colours: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(ids)
    image.putpalette([channel for colour in colours for channel in colour])
    return image


def read(folder: Path, image: Image.Image | bytes, file_format: str = "PNG") -> np.ndarray:
    if isinstance(image, bytes):
        (folder / "x.png").write_bytes(image)
    else:
        image.save(folder / "x.png", file_format)
    return labels_by_ids_or_colours(read_label_map(open_location(folder), "x.png"), LABELS)


FOREIGN = [(9, 9, 9), (1, 2, 3), (200, 0, 0), (4, 5, 6)]
TURNED = [COLOURS[i] for i in (0, 2, 3, 1)]
FORMS = {
    "grey": Image.fromarray(IDS),
    "grey as RGB": Image.fromarray(IDS).convert("RGB"),
    "grey of 2 bits": png_of_grey_bits(IDS, 2),
    "grey of 4 bits": png_of_grey_bits(IDS, 4),
    "the set's palette": palette_image(IDS, COLOURS),
    "a palette of other colours, one of them of another class": palette_image(IDS, FOREIGN),
    "colours": palette_image(IDS, COLOURS).convert("RGB"),
    "colours, opaque alpha": palette_image(IDS, COLOURS).convert("RGBA"),
    "colours behind a long palette": palette_image(IDS + 10, [(7, 7, 7)] * 10 + COLOURS),
}


@pytest.mark.parametrize("form", FORMS)
def test_ids_or_colours_are_read_as_they_are_meant(tmp_path: Path, form: str):
    np.testing.assert_array_equal(read(tmp_path, FORMS[form]), IDS)


def test_two_values_are_read_by_their_colours(tmp_path: Path):
    """Black and white, which no id is; of one bit, white is the class of that colour too."""
    shape = np.array([[0, 255, 0]], np.uint8)
    np.testing.assert_array_equal(read(tmp_path, Image.fromarray(shape)), [[0, 3, 0]])
    with pytest.raises(RejectedError, match=r"ambiguous: x\.png .* 1 is nose as an id, glint by"):
        read(tmp_path, Image.fromarray(shape).convert("1"))


REFUSED = {
    "ids above": (
        Image.fromarray(np.array([[0, 4, 255, 255]], np.uint8)),
        r"mask values not usable: x\.png must hold ids from 0 to 3, or colours, of mine, got "
        r"255 \(2 px\), 4 \(1 px\)$",
    ),
    "unknown colours": (
        Image.fromarray(np.array([[(200, 0, 0), (201, 0, 0), (201, 0, 0), (0, 7, 0)]], np.uint8)),
        r"mask colours not usable: x\.png must hold colours of the label set, exactly, got "
        r"\(201, 0, 0\) \(2 px\), \(0, 7, 0\) \(1 px\)$",
    ),
    "colours whose indices could be ids": (
        palette_image(IDS, TURNED),
        r"mask ambiguous: .* 1 is nose as an id, lips by its colour; save the colours as RGB",
    ),
    "colours whose background is not first": (
        palette_image(IDS, [COLOURS[i] for i in (1, 0, 2, 3)]),
        r"mask ambiguous: .* 0 is background as an id, nose by its colour",
    ),
    "the same, one colour a little off": (
        palette_image(IDS, [*TURNED[:3], (201, 0, 0)]),
        "mask ambiguous",
    ),
    "transparent": (Image.new("LA", (2, 2), (1, 0)), "mask with alpha"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_be_a_guess_is_refused(tmp_path: Path, what: str):
    image, reason = REFUSED[what]
    with pytest.raises(RejectedError, match=reason):
        read(tmp_path, image)


def test_a_jpeg_is_refused_whatever_its_name(tmp_path: Path):
    with pytest.raises(RejectedError, match=r"mask is no PNG: x\.png is JPEG"):
        read(tmp_path, Image.fromarray(IDS), "JPEG")


def test_ids_of_another_order_get_the_set_s(tmp_path: Path):
    """What the set lacks becomes background; colours are no ids."""
    Image.fromarray(IDS).save(tmp_path / "x.png")
    stored = read_label_map(open_location(tmp_path), "x.png")
    order = ("background", "hat", "nose", "left_eye")
    expected = [[0, 0, PAPER9.class_id["nose"]], [PAPER9.class_id["left_eye"]] * 2 + [0]]
    np.testing.assert_array_equal(labels_by_ids(stored, order, PAPER9), expected)
    with pytest.raises(RejectedError, match=r"ids from 0 to 2, got 3 \(2 px\)"):
        labels_by_ids(stored, order[:3], PAPER9)
    FORMS["colours"].save(tmp_path / "x.png")
    with pytest.raises(RejectedError, match=r"ids from 0 to 3, in grey .*, got colours"):
        labels_by_ids(read_label_map(open_location(tmp_path), "x.png"), order, PAPER9)


def test_a_reduced_pixel_gets_the_class_of_most_of_it():
    """Thin stripes of another class do not survive by chance, as the nearest pixel's would."""
    labels = np.full((64, 64), 2, np.uint8)
    labels[:, 32:] = 1
    labels[:, ::4] = 3
    small = reduced(labels, (16, 16))
    assert (small[:, :7] == 2).all()
    assert (small[:, 9:] == 1).all()
    assert reduced(labels, (64, 64)) is labels
