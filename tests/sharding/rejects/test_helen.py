"""What can't be used of HELEN is left out with its reason, and everything else is sharded."""

import json
from pathlib import Path

import numpy as np

from tests.sharding.rejects.spoiled_data import (
    FILE_FAULTS,
    FOLDER_FAULT,
    Draw,
    Raw,
    check,
    gone,
    list_more,
    of_size,
)


def test_bad_files_of_helen(raw_helen: Raw, draw_helen: Draw, tmp_path: Path):
    raw = raw_helen
    names: list[str] = []

    def add(fault: str) -> tuple[str, str]:
        name = f"bad-{fault}-{len(names)}"
        names.append(name)
        draw_helen(raw.root, name)
        return f"images/{name}.jpg", f"labels/{name}/{name}_lbl06.png"

    faults = FILE_FAULTS | FOLDER_FAULT | {gone: "missing"}
    for spoil, reason in faults.items():
        image, nose = add("image")
        raw.spoil(spoil, image, f"image {reason.format(part='')}", image)
        image, nose = add("mask")
        raw.spoil(spoil, nose, f"mask {reason.format(part='lbl06: ')}", image)
    for size in ((99, 120), (100, 121), (120, 100)):
        image, nose = add("size")
        reason = "mask of another size: lbl06 must be 100 x 120 as its image, got {} x {}"
        raw.spoil(of_size(*size), nose, reason.format(*size), image)
    image, nose = add("folder")
    labels = (raw.root / nose).parent
    labels.rename(labels.with_suffix(".away"))
    labels.write_bytes(b"a file in the place of a folder")
    raw.reasons[image] = "mask not readable: Not a directory"
    away = f"labels/{labels.name}.away"
    raw.reasons[away] = f"labels without an image: no images/{labels.name}.away.jpg"
    nothing = {index: np.zeros((120, 100), np.uint8) for index in range(11)}
    draw_helen(raw.root, "nothing", maps=nothing)
    raw.reasons["images/nothing.jpg"] = "nothing labelled: all masks are empty"
    raw.reasons["images/never-there.jpg"] = "image missing"
    list_more(raw, [*names, "nothing", "never-there"])
    check(raw, "helen", tmp_path / "out")


def test_files_of_helen_that_nothing_names(raw_helen: Raw, draw_helen: Draw, tmp_path: Path):
    """Of a photograph that is lost it is said once. They are none of a split file's business."""
    raw = raw_helen
    images, labels = raw.root / "images", raw.root / "labels"
    (images / "12_1.jpg").rename(images / "12_1.JPG")
    (images / "old").mkdir()
    (images / "old/11_1.png").write_bytes((images / "11_1.jpg").read_bytes())
    gone(images / "13_1.jpg")
    for name in ("91_1", "92_1"):
        draw_helen(raw.root, name)
    gone(images / "92_1.jpg")
    for path in (images / "Thumbs.db", images / "._11_1.jpg", labels / "._1/._1_lbl00.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"of a system's own")
    (labels / "93_1").mkdir()
    (labels / "overview.png").write_bytes(b"of no face")

    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["11_1", "13_1"], "test": ["31_1"]}))
    raw.good = {"11_1", "31_1"}
    raw.reasons = {"images/13_1.jpg": "image missing"}
    check(raw, "helen", tmp_path / "chosen", str(split))

    raw.good = {"11_1", "14_2", "21_1", "31_1"}
    in_none = "image in no list: not in exemplars.txt, tuning.txt, testing.txt"
    raw.reasons |= {
        "images/old/11_1.png": "name not usable: expected images/11_1.jpg",
        "labels/92_1": "labels without an image: no images/92_1.jpg",
        "images/12_1.jpg": "image missing",
        "images/12_1.JPG": "name not usable: expected images/12_1.jpg",
        "images/91_1.jpg": in_none,
    }
    for rule in ("paper", "official"):
        check(raw, "helen", tmp_path / rule, rule)


def test_names_of_helen(raw_helen: Raw, draw_helen: Draw, tmp_path: Path):
    """No name leads out of the data set, though a face lies there."""
    raw = raw_helen
    secret = tmp_path / "secret/face"
    draw_helen(tmp_path / "secret", "face")
    (tmp_path / "secret/face.jpg").write_bytes((raw.root / "images/11_1.jpg").read_bytes())
    odd = ["../../secret/face", str(secret), "..", "a.b", "a b", "a,b", "ä", "a\\b", "*", "x" * 91]
    for name in odd:
        reason = f"name not usable: {name!r} in exemplars.txt, expected letters, digits, - and _"
        raw.reasons[f"images/{name}.jpg"] = reason
    raw.reasons["images/21_1.jpg"] = "listed twice: in exemplars.txt and tuning.txt"
    raw.reasons["images/12_1.jpg"] = "listed twice: in exemplars.txt and exemplars.txt"
    list_more(raw, [*odd, "21_1", "12_1"])
    manifest = check(raw, "helen", tmp_path / "out")
    assert manifest.num_samples == {"train": 4, "val": 1, "test": 1}


def test_names_in_a_split_file_of_helen(raw_helen: Raw, tmp_path: Path):
    raw, split = raw_helen, tmp_path / "split.json"
    names = {"train": ["11_1", "a.b", "31_1"], "val": ["21_1", "99_1", "21_1"], "test": ["31_1"]}
    split.write_text(json.dumps(names))
    raw.good = {"11_1", "21_1", "31_1"}
    where = "train of the split file"
    raw.reasons = {
        "images/a.b.jpg": f"name not usable: 'a.b' in {where}, expected letters, digits, - and _",
        "images/31_1.jpg": f"listed twice: in {where} and test of the split file",
        "images/99_1.jpg": "image missing",
        "images/21_1.jpg": "listed twice: in val of the split file and val of the split file",
    }
    manifest = check(raw, "helen", tmp_path / "out", str(split))
    assert manifest.num_samples == {"train": 1, "val": 1, "test": 1}
