"""`stn-icnn parse` with boxes, framing and confidence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stn_icnn.inference.command import main
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.faces.confidence import Confidence
from stn_icnn.inference.faces.frame import FaceFrame
from stn_icnn.inference.model_sources import load_usable
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.pasting import PlacedPatches
from tests.parse_command import refusal


def test_boxes_of_another_detector_say_where_the_faces_are(
    photos: Path, model: str, tmp_path: Path, capsys
):
    boxes, out = tmp_path / "boxes.csv", tmp_path / "out"
    boxes.write_text("name,x0,y0,x1,y1\na.jpg,5,8,25,36\na.jpg,35,8,55,36\n")
    arguments = ["parse", str(photos), "--model", model, "--out", str(out), "--boxes", str(boxes)]
    assert main([*arguments, "--write", "labels,windows,crops"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["faces"], result["without_face"], result["doubtful"]) == (2, 1, 0)
    parser = FaceParser.load(model, "cpu")
    expected = parser.parse(photos / "a.jpg", boxes=[(5, 8, 25, 36), (35, 8, 55, 36)])
    assert np.array_equal(np.asarray(Image.open(out / "a.png")), expected.labels)
    assert not np.asarray(Image.open(out / "b.png")).any()
    told = json.loads((out / "a_windows.json").read_text())
    assert told == expected.describe() | {"photo": "a.jpg"}
    assert [face["frame"]["x"] for face in told["faces"]] == [15, 45]
    alone = json.loads((out / "b_windows.json").read_text())
    assert alone == {"photo": "b.png", "size": [40, 72], "windows": {}, "faces": []}
    classes = json.loads((out / "classes.json").read_text())
    assert [each["id"] for each in classes] == list(PAPER9.model_classes)


@pytest.mark.parametrize("name", ["photos/a.jpg", "{folder}/photos/a.jpg", "./a.jpg"])
def test_boxes_name_photographs_as_the_command_does_or_by_their_last_part(
    photos: Path, model: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    rows = {name.format(folder=tmp_path): [5, 8, 25, 36]}
    Path("boxes.json").write_text(json.dumps(rows))
    arguments = ["photos/a.jpg", "--model", model, "--out", "out", "--boxes", "boxes.json"]
    assert main(["parse", *arguments, "--write", "labels"]) == 0
    assert json.loads(capsys.readouterr().out)["faces"] == 1


def test_what_cannot_be_asked_of_the_model_is_refused_at_once(
    photos: Path, model: str, tmp_path: Path, capsys
):
    boxes, out = tmp_path / "boxes.csv", tmp_path / "out"
    boxes.write_text("other.jpg,5,8,25,36\n")
    for options, said in (
        (["--framing", "found"], "framing 'found' needs boxes: this model has no finder"),
        (["--min-confidence", "0.5"], "this model tells no confidence"),
        (["--min-confidence", "7"], "--min-confidence must be from 0 to 1, got 7"),
        (["--boxes", str(boxes)], "boxes.csv names none of the photographs: it has other.jpg"),
        (["--boxes", str(boxes), "--framing", "whole"], "boxes say where faces are"),
        (["--boxes", str(tmp_path / "none.csv")], "boxes can't be read from"),
    ):
        assert said in refusal(capsys, photos, "--model", model, "--out", out, *options)
    assert not out.exists()


class SureOfTheLeft:
    """Sure of the faces in the left half of a photograph."""

    def estimate(self, patches: PlacedPatches, frame: FaceFrame, score: float) -> Confidence:
        sure = 0.9 if frame.x < 30 else 0.3
        return Confidence(1.0, sure, {part.name: sure for part in patches.label_set.parts})


def test_unsure_faces_are_left_out_and_doubtful_photographs_counted(
    photos: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """Of a model that is sure of faces in the left half of a photograph."""

    def load(path: str, *how: Any) -> FaceParser:
        parser = FaceParser(load_usable(path, "parsing"), *how)
        parser.confidence = SureOfTheLeft()
        return parser

    monkeypatch.setattr(FaceParser, "load", load)
    boxes, out = tmp_path / "boxes.csv", tmp_path / "out"
    boxes.write_text("a.jpg,35,8,55,36\na.jpg,5,8,25,36\nb.png,25,8,39,36\n")
    arguments = ["parse", str(photos), "--model", model, "--out", str(out), "--boxes", str(boxes)]
    assert main([*arguments, "--write", "windows"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["faces"], result["doubtful"], result["left_out"]) == (3, 1, 0)
    told = json.loads((out / "a_windows.json").read_text())["faces"]
    assert [face["confidence"] for face in told] == [0.9, 0.3]
    assert main([*arguments, "--write", "windows", "--min-confidence", "0.5"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["faces"], result["without_face"], result["left_out"]) == (1, 1, 2)
