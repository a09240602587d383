"""Boxes of faces: in Python, and in files, whose faults are named with their lines."""

import json
from pathlib import Path

import numpy as np
import pytest

from stn_icnn.inference.faces.boxes import BoxFile, FaceBox, boxes_of_photos, face_boxes

BOX = FaceBox((1, 2, 30, 40))
POINTS = tuple((float(i), float(i + 20)) for i in range(5))
WITH_POINTS = FaceBox((1, 2, 30, 40), POINTS)
NUMBERS = [1, 2, 30, 40, *(n for point in POINTS for n in point)]


@pytest.mark.parametrize(
    ("given", "boxes"),
    [
        ([1, 2, 30, 40], [BOX]),
        ([(1, 2, 30, 40), NUMBERS], [BOX, WITH_POINTS]),
        (np.array([[1, 2, 30, 40]], np.float32), [BOX]),
        ([np.array([1, 2, 30, 40])], [BOX]),
        ([BOX, WITH_POINTS], [BOX, WITH_POINTS]),
        (NUMBERS, [WITH_POINTS]),
        ([], []),
        (np.zeros((0, 4)), []),
    ],
)
def test_rows_of_numbers_are_boxes(given, boxes: list[FaceBox]):
    assert face_boxes(given) == boxes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1, 2, 3, 4, 0.9]], r"x0, y0, x1, y1, or these and ten more.* got \[1, 2, 3, 4, 0.9\]"),
        ([[30, 2, 1, 40]], "with x1 > x0 and y1 > y0"),
        ([[1, 2, float("nan"), 40]], "got .1, 2, nan, 40."),
        ([7, None], "a face's box must be .*, got 7"),
    ],
)
def test_what_is_no_box_is_refused(given, message: str):
    with pytest.raises(ValueError, match=message):
        face_boxes(given)


def test_photographs_have_their_boxes_in_turn_or_by_name():
    names = ["x/a.jpg", "b.jpg"]
    assert boxes_of_photos([[], [[1, 2, 30, 40]]], names, False) == [[], [BOX]]
    assert boxes_of_photos({"a.jpg": [1, 2, 30, 40]}, names, False) == [[BOX], []]
    in_folder = boxes_of_photos({"x/a.jpg": [1, 2, 30, 40]}, ["in/x/a.jpg", "in/y/a.jpg"], False)
    assert in_folder == [[BOX], []]
    assert boxes_of_photos([1, 2, 30, 40], ["a.jpg"], True) == [[BOX]]
    with pytest.raises(ValueError, match="boxes must be of 2 photographs, got those of 1"):
        boxes_of_photos([[]], names, False)
    with pytest.raises(ValueError, match=r"names none of the photographs: it has c\.jpg"):
        boxes_of_photos({"c.jpg": []}, names, False)


CSV = "name,x0,y0,x1,y1\na.jpg,1,2,30,40\nx/b.jpg, 1, 2, 30, 40" + 10 * ", {}" + "\n\n"
JSON_LIST = [
    {"name": "a.jpg", "box": [1, 2, 30, 40]},
    {"name": "x/b.jpg", "box": [1, 2, 30, 40], "landmarks": POINTS},
]


@pytest.mark.parametrize(
    "text",
    [
        CSV.format(*NUMBERS[4:]),
        CSV.format(*NUMBERS[4:]).partition("\n")[2].replace("a.jpg", "./a.jpg"),
        json.dumps(JSON_LIST),
        json.dumps({"a.jpg": [1, 2, 30, 40], "x/b.jpg": [NUMBERS]}),
    ],
    ids=["CSV", "CSV without a header", "JSON list", "JSON by name"],
)
def test_every_form_of_a_file_holds_the_same_boxes(text: str, tmp_path: Path):
    path = tmp_path / "boxes"
    path.write_text("\ufeff" + text)
    boxes = BoxFile.read(path)
    assert boxes.of(["a.jpg"]) == [BOX]
    assert boxes.of(["/photos/x/b.jpg", "x/b.jpg"]) == [WITH_POINTS]
    assert boxes.of(["b.jpg"]) == []


def test_faces_of_one_photograph_are_in_the_order_of_their_rows(tmp_path: Path):
    path = tmp_path / "boxes.csv"
    path.write_text("a.jpg,1,2,30,40\na.jpg,5,6,7,8\n")
    assert BoxFile.read(path).of(["a.jpg"]) == [BOX, FaceBox((5, 6, 7, 8))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a.jpg,1,2,30,40\nb.jpg,1,2,30\n",
            r"boxes, line 2: a face's box must be .*\[1.0, 2.0",
        ),
        ("a.jpg,1,2,30,40\nb.jpg,1,2,30,four\n", "boxes, line 2: could not convert .*'four'"),
        ("a.jpg,9,2,1,40\n", "boxes, line 1: .*with x1 > x0"),
        ("", "boxes holds no boxes: a row is name, x0"),
        ('[{"name": "a.jpg",\n"box": [1 2]}]', "boxes, line 2: no JSON"),
        ('[{"name": "a.jpg"}]', "boxes, face 1: must be an object with name and box"),
        ('{"a.jpg": 5}', "boxes, 'a.jpg': must be a list of faces, got 5"),
        ('{"a.jpg": [[1, 2, null, 4]]}', "boxes, 'a.jpg': "),
    ],
)
def test_a_fault_in_a_file_is_named_with_its_place(text: str, message: str, tmp_path: Path):
    (tmp_path / "boxes").write_text(text)
    with pytest.raises(ValueError, match=message):
        BoxFile.read(tmp_path / "boxes")


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"boxes can't be read from .*none\.csv"):
        BoxFile.read(tmp_path / "none.csv")
