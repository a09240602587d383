"""HELEN's reader: sides, argmax of soft maps, sizes, lists, rejects."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharding.layouts.helen import LAYOUT
from sharding.layouts.raw import Item, RawSample
from sharding.layouts.splits import by_split
from sharding.storage.location import open_location
from stn_icnn.decoding import RejectedError
from stn_icnn.label_sets import PAPER9

Draw = Callable[..., None]


def read(root: Path, name: str) -> RawSample:
    return LAYOUT.read(open_location(root), Item(name, f"images/{name}.jpg", "train"), PAPER9)


def split_keys(root: Path, rule: str) -> dict[str, list[str]]:
    listing = LAYOUT.list_items(open_location(root), rule, 0, False)
    return {split: [i.key for i in items] for split, items in by_split(listing.items).items()}


def test_sides_are_swapped_to_the_subjects(tmp_path: Path, draw_helen: Draw):
    """HELEN's lbl02 and lbl04 are on the viewer's left: the subject's right."""
    draw_helen(tmp_path, "1_1")
    labels = read(tmp_path, "1_1").labels
    assert labels[37, 30] == PAPER9.class_id["right_brow"]
    assert labels[37, 70] == PAPER9.class_id["left_brow"]
    assert labels[48, 30] == PAPER9.class_id["right_eye"]
    assert labels[48, 70] == PAPER9.class_id["left_eye"]


def test_every_other_map_keeps_its_class(tmp_path: Path, draw_helen: Draw):
    draw_helen(tmp_path, "1_1")
    labels = read(tmp_path, "1_1").labels
    names = {
        (2, 2): "background",
        (15, 110): "skin",
        (50, 65): "nose",
        (50, 87): "upper_lip",
        (50, 91): "inner_mouth",
        (50, 95): "lower_lip",
        (50, 10): "hair",
    }
    assert {xy: labels[xy[1], xy[0]] for xy in names} == {
        xy: PAPER9.class_id[name] for xy, name in names.items()
    }


def test_label_is_the_argmax_of_the_soft_maps(tmp_path: Path, draw_helen: Draw):
    soft = np.random.default_rng(0).integers(0, 200, (11, 30, 40), np.uint8)
    soft[:, 0, 0] = 77  # a tie goes to the first, as in numpy
    soft[:, 0, 1] = 0
    draw_helen(tmp_path, "1_1", maps=dict(enumerate(soft)), size=(40, 30))
    order = [0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10]
    np.testing.assert_array_equal(
        read(tmp_path, "1_1").labels, np.array(order)[soft.argmax(axis=0)]
    )


def test_small_image_keeps_its_size_and_bytes(tmp_path: Path, draw_helen: Draw):
    draw_helen(tmp_path, "1_1")
    raw = read(tmp_path, "1_1")
    assert raw.image.size == raw.original_size == (100, 120)
    assert raw.jpeg == (tmp_path / "images/1_1.jpg").read_bytes()


def test_large_image_is_reduced_with_its_maps(tmp_path: Path, draw_helen: Draw):
    """Sides are at most 1024, the aspect stays, and labels stay on what they label."""
    nose = np.zeros((2048, 1000), np.uint8)
    nose[800:1200, 300:700] = 255
    maps = {index: np.zeros_like(nose) for index in range(1, 11)} | {6: nose, 0: 255 - nose}
    image = Image.new("RGB", (1000, 2048))
    image.paste((255, 255, 255), (300, 800, 700, 1200))
    draw_helen(tmp_path, "1_1", maps=maps, size=(1000, 2048))
    image.save(tmp_path / "images/1_1.jpg", quality=95)
    raw = read(tmp_path, "1_1")
    assert raw.image.size == (500, 1024)
    assert raw.original_size == (1000, 2048)
    assert raw.jpeg is None
    expected = np.zeros((1024, 500), bool)
    expected[400:600, 150:350] = True
    np.testing.assert_array_equal(raw.labels == PAPER9.class_id["nose"], expected)
    np.testing.assert_array_equal(np.asarray(raw.image.convert("L")) > 127, expected)


def test_maps_are_reduced_before_the_argmax(tmp_path: Path, draw_helen: Draw):
    """Stripes of two classes over a weaker third: the third wins only once they are averaged."""
    size = (2048, 64)
    columns = np.arange(size[0]) % 2
    stripes = {1: 200 * columns, 6: 200 * (1 - columns), 10: np.full(size[0], 120)}
    maps = {index: np.zeros(size[::-1], np.uint8) for index in range(11)}
    for index, row in stripes.items():
        maps[index] = np.tile(row.astype(np.uint8), (size[1], 1))
    draw_helen(tmp_path, "1_1", maps=maps, size=size)
    labels = read(tmp_path, "1_1").labels
    assert labels.shape == (32, 1024)
    assert (labels[:, 1:-1] == PAPER9.class_id["hair"]).all()


def test_exif_rotation_is_honoured(tmp_path: Path, draw_helen: Draw):
    """A camera's sideways file with its upright label maps."""
    upright = Image.new("RGB", (100, 120))
    upright.paste((255, 255, 255), (0, 0, 50, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    draw_helen(tmp_path, "1_1")
    upright.transpose(Image.Transpose.ROTATE_90).save(
        tmp_path / "images/1_1.jpg", exif=exif, quality=95
    )
    raw = read(tmp_path, "1_1")
    assert raw.image.size == (100, 120)
    assert raw.jpeg is None
    shown = np.asarray(raw.image.convert("L"))
    assert shown[10, 20] > 200
    assert shown[100, 20] < 50
    assert shown[10, 80] < 50


def test_unusable_faces_are_rejected_with_the_reason(tmp_path: Path, draw_helen: Draw):
    draw_helen(tmp_path, "1_1", maps={4: np.zeros((120, 99), np.uint8)})
    with pytest.raises(
        RejectedError, match=r"another size: lbl04 must be 100 x 120 .* got 99 x 120"
    ):
        read(tmp_path, "1_1")
    (tmp_path / "labels/1_1/1_1_lbl03.png").unlink()
    with pytest.raises(RejectedError, match="mask missing: lbl03"):
        read(tmp_path, "1_1")
    (tmp_path / "images/1_1.jpg").unlink()
    with pytest.raises(RejectedError, match="image missing"):
        read(tmp_path, "1_1")


def test_lists_are_the_splits_in_their_order(helen: Path):
    for rule in ("paper", "official"):
        assert split_keys(helen, rule) == {
            "train": ["11_1", "12_1", "13_1", "14_2"],
            "val": ["21_1"],
            "test": ["31_1"],
        }


def test_broken_lists_are_refused(helen: Path):
    (helen / "tuning.txt").write_text("1 21_1\n")
    with pytest.raises(ValueError, match=r"tuning.txt: expected '<index> , <name>', got '1 21_1'"):
        split_keys(helen, "paper")
    (helen / "tuning.txt").unlink()
    with pytest.raises(ValueError, match=r"no list at .*tuning.txt"):
        split_keys(helen, "paper")


def test_lists_are_utf_8(helen: Path):
    """With a byte order mark or without, as editors under Windows save them."""
    (helen / "tuning.txt").write_text("1 , 21_1\n", "utf-8-sig")
    assert split_keys(helen, "paper")["val"] == ["21_1"]
    (helen / "tuning.txt").write_text("1 , M\u00e4dchen\n", "latin-1")
    with pytest.raises(ValueError, match=r"/tuning.txt must be UTF-8, got byte 0xe4 at 5: save it"):
        split_keys(helen, "paper")


def test_split_file(helen: Path, tmp_path: Path):
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": ["31_1"], "val": ["11_1"]}))
    assert split_keys(helen, str(file)) == {"train": ["31_1"], "val": ["11_1"], "test": []}
    _, item = LAYOUT.list_items(open_location(helen), str(file), 0, False).items
    assert item.source == "images/11_1.jpg"
    for image in (helen / "images").iterdir():
        image.unlink()
    for rule in ("paper", str(file)):
        with pytest.raises(ValueError, match=r"no images at .*/images: --source must hold HELEN"):
            split_keys(helen, rule)
