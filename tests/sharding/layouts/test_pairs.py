"""Layouts of photographs with one label map each: LaPa, Relabeled HELEN, the plain folder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharding.layouts import folder, helen_relabeled
from sharding.layouts.lapa import LAYOUT as LAPA
from sharding.layouts.raw import Layout, RawSample
from sharding.layouts.splits import by_split
from sharding.packing.recipe import Recipe
from sharding.storage.joined import JoinedLocation
from sharding.storage.location import open_source
from stn_icnn.decoding import RejectedError
from stn_icnn.label_sets import CELEBAMASK19, PAPER9
from stn_icnn.labels import LabelSet
from stn_icnn.storage import Folder
from tests.sharding.rejects.spoiled_data import source_of

Draw = Callable[..., None]


def listed(layout: Layout, root: Path, rule: str = "", seed: int = 0) -> dict[str, list[str]]:
    source = open_source(source_of(root, layout.name))
    listing = layout.list_items(source, rule or layout.split_rules[0], seed, False)
    return {split: [i.key for i in items] for split, items in by_split(listing.items).items()}


def read(layout: Layout, root: Path, key: str, label_set: LabelSet = PAPER9) -> RawSample:
    source = open_source(source_of(root, layout.name))
    items = layout.list_items(source, layout.split_rules[0], 0, False).items
    return layout.read(source, next(item for item in items if item.key == key), label_set)


def check_helen_face(labels: np.ndarray) -> None:
    """Its ids 2 and 4 are on the viewer's left: the subject's right."""
    names = {
        (30, 37): "right_brow",
        (70, 37): "left_brow",
        (30, 48): "right_eye",
        (70, 48): "left_eye",
        (15, 110): "skin",
        (50, 65): "nose",
        (50, 87): "upper_lip",
        (50, 91): "inner_mouth",
        (50, 95): "lower_lip",
        (50, 10): "hair",
        (2, 2): "background",
    }
    found = {xy: PAPER9.class_names[labels[xy[1], xy[0]]] for xy in names}
    assert found == names


def test_lapa_comes_in_its_own_splits_with_the_subject_s_sides(lapa: Path):
    assert listed(LAPA, lapa) == {
        "train": ["1_0", "2_0", "3_0", "4_0"],
        "val": ["5_0"],
        "test": ["6_0"],
    }
    check_helen_face(read(LAPA, lapa, "5_0").labels)
    with pytest.raises(ValueError, match=rf"; it is in {lapa}: give that as --source"):
        listed(LAPA, lapa.parent)
    (lapa / "val/images").rename(lapa / "val/photos")
    with pytest.raises(ValueError, match=r"no photographs at .*/val/images: expected .*/val/im"):
        listed(LAPA, lapa)


def test_a_split_file_takes_lapa_s_faces_from_any_folder(lapa: Path, tmp_path: Path):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["6_0"], "test": ["1_0", "5_0"]}))
    expected = {"train": ["6_0"], "val": [], "test": ["1_0", "5_0"]}
    assert listed(LAPA, lapa, str(split)) == expected


def test_relabeled_helen_has_a_tenth_of_train_to_validate_on(tmp_path: Path, draw_pair: Draw):
    """By the seed; what is drawn to look at, and the reduced copy of `test`, are not read."""
    names = {"train": [f"{i}_1" for i in range(20)], "test": ["30_1"], "test_resize": ["30_1"]}
    for place, some in names.items():
        for name in some:
            draw_pair(tmp_path, f"{place}/{name}_image.jpg", f"{place}/{name}_label.png")
            (tmp_path / place / f"{name}_viz.jpg").write_bytes(b"colours over the photograph")
    layout = helen_relabeled.LAYOUT
    first, other = (listed(layout, tmp_path, seed=seed) for seed in (0, 1))
    assert {split: len(keys) for split, keys in first.items()} == {"train": 18, "val": 2, "test": 1}
    assert sorted(first["train"] + first["val"]) == sorted(names["train"])
    assert first["val"] != other["val"]
    check_helen_face(read(layout, tmp_path, "30_1").labels)
    assert layout.list_items(open_source(tmp_path), "official", 0, False).rejected == ()


def test_a_large_pair_is_reduced_together(tmp_path: Path, draw_pair: Draw):
    ids = np.zeros((2048, 1000), np.uint8)
    ids[800:1200, 300:700] = PAPER9.class_id["nose"]
    image = Image.fromarray(np.where(ids[..., None] > 0, 255, 0).repeat(3, 2).astype(np.uint8))
    draw_pair(tmp_path, "images/big.jpg", "masks/big.png", ids)
    image.save(tmp_path / "images/big.jpg", quality=95)
    raw = read(folder.LAYOUT, tmp_path, "big")
    expected = np.zeros((1024, 500), bool)
    expected[400:600, 150:350] = True
    assert raw.original_size == (1000, 2048)
    np.testing.assert_array_equal(raw.labels == PAPER9.class_id["nose"], expected)
    np.testing.assert_array_equal(np.asarray(raw.image.convert("L")) > 127, expected)


def test_a_folder_is_split_by_shares_or_a_file(plain_folder: Path, tmp_path: Path):
    layout = folder.LAYOUT
    sizes = {
        rule: [len(keys) for keys in listed(layout, plain_folder, rule).values()]
        for rule in ("", "6:2:2", "0.5:0.5:0", "1:0:0")
    }
    expected = {"": [8, 1, 1], "6:2:2": [6, 2, 2], "0.5:0.5:0": [5, 5, 0], "1:0:0": [10, 0, 0]}
    assert sizes == expected
    assert listed(layout, plain_folder) != listed(layout, plain_folder, seed=1)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"test": ["face-3"]}))
    assert listed(layout, plain_folder, str(split))["test"] == ["face-3"]
    with pytest.raises(ValueError, match=r"no split file at paper: --split takes shares as 8:1:1"):
        listed(layout, plain_folder, "paper")
    with pytest.raises(ValueError, match="--split must have a share above 0, got 0:0:0"):
        listed(layout, plain_folder, "0:0:0")


def test_masks_may_lie_in_a_folder_inside_that_of_the_photographs(tmp_path: Path, draw_pair: Draw):
    """But the two can't be one, where a PNG may be either."""
    draw_pair(tmp_path, "photos/a.png", "photos/masks/a.png")
    photos = Folder(tmp_path / "photos")
    inside = JoinedLocation((("images", photos), ("masks", photos.child("masks"))))
    listing = folder.LAYOUT.list_items(inside, "1:0:0", 0, False)
    assert [item.source for item in listing.items] == ["images/a.png"]
    assert listing.rejected == ()
    above = JoinedLocation((("images", Folder(tmp_path)), ("masks", photos.child("masks"))))
    with pytest.raises(ValueError, match=rf"no photographs at .*; there is {photos.root}/a\.png"):
        folder.LAYOUT.list_items(above, "1:0:0", 0, False)
    one = JoinedLocation((("images", photos), ("masks", photos)))
    with pytest.raises(ValueError, match="--images and --masks must be two folders, got"):
        folder.LAYOUT.list_items(one, "1:0:0", 0, False)


@pytest.mark.parametrize(
    ("order", "values"),
    [("official", (2, 7, 12)), ("zllrunning", (10, 3, 13)), ("farl", (10, 7, 12))],
)
def test_celebamask_s_label_maps_are_read_in_any_order(
    tmp_path: Path, draw_pair: Draw, order: str, values: tuple[int, int, int]
):
    """A nose, a right brow and a lower lip, and a photograph of twice the size."""
    layout = folder.IN_ORDER[f"folder:{order}"]
    ids = np.zeros((512, 512), np.uint8)
    ids[100:120, 100], ids[200, 100], ids[300, 100] = values
    draw_pair(tmp_path, "images/7.jpg", "masks/7.png", ids)
    Image.new("RGB", (1024, 1024)).save(tmp_path / "images/7.jpg")
    raw = read(layout, tmp_path, "7", CELEBAMASK19)
    found = [CELEBAMASK19.class_names[raw.labels[y, 100]] for y in (110, 200, 300)]
    assert found == ["nose", "right_brow", "lower_lip"]
    assert raw.image.size == (512, 512)
    assert (layout.scale.px, layout.scale.fit) == (512, "exact")
    Image.new("L", (256, 256)).save(tmp_path / "masks/7.png")
    with pytest.raises(RejectedError, match=r"masks/7\.png must be 512 x 512, got 256 x 256"):
        read(layout, tmp_path, "7", CELEBAMASK19)


def test_orders_have_the_same_nineteen_classes():
    for classes in folder.ORDERS.values():
        assert sorted(classes) == sorted(CELEBAMASK19.class_names)


def test_lapa_has_no_classes_beyond_its_own(tmp_path: Path):
    with pytest.raises(ValueError, match=r"must name classes that lapa has .*, got glasses"):
        Recipe(layout="lapa", labels="celebamask19")
