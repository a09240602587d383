"""What can't be used of photographs with one label map each is left out with its reason.

These are the layouts LaPa, Relabeled HELEN, and the plain folder.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from tests.sharding.rejects.spoiled_data import (
    FILE_FAULTS,
    FOLDER_FAULT,
    Draw,
    Raw,
    check,
    gone,
    of_size,
    source_of,
)


def test_bad_files_of_a_folder(raw_folder: Raw, draw_pair: Draw, tmp_path: Path):
    raw = raw_folder
    for number, (spoil, reason) in enumerate((FILE_FAULTS | FOLDER_FAULT).items()):
        for what in ("image", "mask"):
            image, mask = (f"{place}/bad-{what}-{number}" for place in ("images", "masks"))
            image, mask = f"{image}.jpg", f"{mask}.png"
            draw_pair(raw.root, image, mask)
            part = f"{mask}: " if what == "mask" else ""
            path = image if what == "image" else mask
            if what == "image" and spoil in FOLDER_FAULT:  # which no listing shows
                raw.spoil(spoil, path, "masks without an image", mask)
            elif what == "mask" and spoil in FOLDER_FAULT:
                raw.spoil(spoil, path, "mask not readable: Is a directory", image)
            else:
                raw.spoil(spoil, path, f"{what} {reason.format(part=part)}", image)
    for name, ids, reason in (
        ("above", np.full((120, 100), 11, np.uint8), "mask values not usable: {} must hold ids"),
        ("empty", np.zeros((120, 100), np.uint8), "nothing labelled: all masks are empty"),
    ):
        draw_pair(raw.root, f"images/{name}.jpg", f"masks/{name}.png", ids)
        raw.reasons[f"images/{name}.jpg"] = reason.format(f"masks/{name}.png")
    draw_pair(raw.root, "images/small.jpg", "masks/small.png")
    reason = "mask of another size: masks/small.png must be 100 x 120 as its image, got 50 x 60"
    raw.spoil(of_size(50, 60), "masks/small.png", reason, "images/small.jpg")
    check(raw, "folder", tmp_path / "out")


def test_names_of_a_folder(raw_folder: Raw, draw_pair: Draw, tmp_path: Path):
    """Images without a mask and the reverse, two of one name, names that no key can be."""
    raw = raw_folder
    draw_pair(raw.root, "images/alone.jpg", "masks/other.png")
    raw.reasons["images/alone.jpg"] = "mask missing: no masks/alone.png"
    raw.reasons["masks/other.png"] = "masks without an image: no images/other.jpg"
    draw_pair(raw.root, "images/twice.jpg", "masks/twice.png")
    draw_pair(raw.root, "images/twice.png", "masks/twice.png")
    reason = "same name twice: images/twice.jpg and images/twice.png"
    raw.reasons["images/twice.jpg"] = reason
    for name, moved in (("a", "masks/a.PNG"), ("b", "masks/b.jpg"), ("c", "masks/more/c.png")):
        draw_pair(raw.root, f"images/{name}.jpg", moved)
        reason = f"mask name not usable: {moved}, expected masks/{name}.png"
        raw.reasons[f"images/{name}.jpg"] = reason
    draw_pair(raw.root, "images/more/d.jpg", "masks/d.png")
    raw.reasons["images/more/d.jpg"] = "name not usable: expected images/NAME.jpg"
    raw.reasons["masks/d.png"] = "masks without an image"
    draw_pair(raw.root, "images/x.y.jpg", "masks/x.y.png")
    raw.reasons["images/x.y.jpg"] = "name not usable: 'x.y' in images, expected letters, digits"
    for stray in ("images/notes.txt", "masks/._face-1.png", "masks/view.jpg"):
        (raw.root / stray).write_bytes(b"none of our business")
    check(raw, "folder", tmp_path / "out")
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["face-1", "twice"], "test": ["face-2", "nobody"]}))
    raw.good = {"face-1", "face-2"}
    raw.reasons = {
        "images/twice.jpg": "same name twice",
        "images/nobody.jpg": "image missing",
    }
    check(raw, "folder", tmp_path / "named", str(split))


def test_names_of_lapa(raw_lapa: Raw, draw_pair: Draw, tmp_path: Path):
    raw = raw_lapa
    draw_pair(raw.root, "train/images/7_0.jpg", "val/labels/7_0.png")
    raw.reasons["train/images/7_0.jpg"] = "mask missing: no train/labels/7_0.png"
    raw.reasons["val/labels/7_0.png"] = "masks without an image: no val/images/7_0.jpg"
    draw_pair(raw.root, "train/images/6_0.jpg", "train/labels/6_0.PNG")
    raw.reasons["train/images/6_0.jpg"] = "same name twice: as test/images/6_0.jpg"
    ids = np.full((120, 100), 12, np.uint8)
    draw_pair(raw.root, "val/images/8_0.jpg", "val/labels/8_0.png", ids)
    reason = "mask values not usable: val/labels/8_0.png must hold ids from 0 to 10, got 12 (12000"
    raw.reasons["val/images/8_0.jpg"] = reason
    (raw.root / "train/landmarks").mkdir()
    (raw.root / "train/landmarks/1_0.txt").write_text("not read")
    check(raw, "lapa", tmp_path / "out")


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ("images", r"no photographs at .*/images: expected .*/images/NAME\.jpg \(or .jpeg, .png"),
        (
            "masks",
            r"no photograph has its mask in .*/masks: images/face-0\.jpg needs .*/face-0\.png",
        ),
    ],
)
def test_a_folder_that_lacks_all_of_one_kind_is_refused(
    plain_folder: Path, tmp_path: Path, spoiled: str, message: str
):
    for file in (plain_folder / spoiled).iterdir():
        gone(file)
    recipe = Recipe(layout="folder", max_rejected=1)
    with pytest.raises(ValueError, match=message):
        build(source_of(plain_folder, "folder"), tmp_path / "out", recipe)
