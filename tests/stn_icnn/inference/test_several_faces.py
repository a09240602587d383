"""Several faces in a photograph, by boxes or found: each is parsed, and the results are given."""

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sharding.procedural.drawing import draw_face
from sharding.procedural.random_face import random_face
from stn_icnn.config import TrainConfig
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.faces.confidence import Confidence
from stn_icnn.inference.faces.finding import FoundFace
from stn_icnn.inference.faces.frame import BOX_CENTRE_Y, BOX_TO_SIDE, FaceFrame, mean_landmarks
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts
from stn_icnn.networks.model import STNiCNN
from stn_icnn.networks.pasting import PlacedPatches

PX = 96
LEFT, RIGHT = FaceFrame(60, 70, PX), FaceFrame(190, 80, 1.25 * PX)


def box_in(frame: FaceFrame) -> tuple[float, float, float, float]:
    """The box from forehead to chin of an upright face."""
    half = frame.side / BOX_TO_SIDE / 2
    y = frame.y + (BOX_CENTRE_Y - 0.5) * frame.side
    return (frame.x - half, y - half, frame.x + half, y + half)


def landmarks_in(frame: FaceFrame) -> list[float]:
    affine = frame.affine(1)
    points = mean_landmarks(PAPER9) @ affine[:, :2].mT + affine[:, 2]
    return [float(value) for value in points.flatten()]


@pytest.fixture(scope="module")
def parser(sure_model: STNiCNN, tiny_config: TrainConfig) -> FaceParser:
    data = DataFacts(dataset="celebamask", fingerprint="abc", scale_px=PX, scale_fit="exact")
    return FaceParser(Checkpoint(sure_model, tiny_config, data, "end_to_end"), "cpu")


@pytest.fixture(scope="module")
def two() -> np.ndarray:
    """Two drawn faces in one photograph, where LEFT and RIGHT frame them."""
    canvas = Image.new("RGB", (260, 150), (90, 110, 100))
    for seed, frame in enumerate((LEFT, RIGHT)):
        rng = np.random.default_rng(seed)
        drawn = draw_face(random_face(rng, "celebamask", round(frame.side)), rng).image
        at = (round(frame.x - frame.side / 2), round(frame.y - frame.side / 2))
        canvas.paste(Image.fromarray(drawn), at)
    return np.array(canvas)


def test_each_box_gives_a_face_and_all_of_them_the_label_map(parser: FaceParser, two: np.ndarray):
    photo = parser.parse(two, boxes=[box_in(LEFT), box_in(RIGHT)])
    left, right = photo.faces
    assert photo.labels.shape == left.labels.shape == (150, 260)
    assert left.labels[:, :108].any()
    assert not left.labels[:, 120:].any()
    assert right.labels[:, 130:].any()
    assert not right.labels[:, :120].any()
    assert np.array_equal(photo.labels, np.where(left.labels > 0, left.labels, right.labels))
    assert np.array_equal(photo.windows, left.windows)
    assert (left.frame.side, right.frame.side) == pytest.approx((96, 120))


def test_a_face_in_a_photograph_is_parsed_as_its_crop_is(parser: FaceParser, two: np.ndarray):
    photo = parser.parse(two, boxes=box_in(LEFT))
    x, y = round(LEFT.x - PX / 2), round(LEFT.y - PX / 2)
    crop = parser.parse(two[y : y + PX, x : x + PX])
    assert (photo.labels[y : y + PX, x : x + PX] == crop.labels).mean() > 0.98
    assert np.allclose(photo.windows - (x, y, 0, 0), crop.windows, atol=1.5)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_landmarks_turn_a_face_upright(parser: FaceParser, two: np.ndarray, quarters: int):
    """A photograph turned clockwise by quarters has its labels turned."""
    expected = parser.parse(two, boxes=[landmarks_and_box(RIGHT)])
    turned = np.ascontiguousarray(np.rot90(two, -quarters))
    width, height = two.shape[1], two.shape[0]
    x, y = RIGHT.x, RIGHT.y
    at = {1: (height - y, x), 2: (width - x, height - y), 3: (y, width - x)}[quarters]
    frame = FaceFrame(*at, RIGHT.side, 90.0 * quarters)
    photo = parser.parse(turned, boxes=[landmarks_and_box(frame)])
    back = np.rot90(photo.labels, quarters)
    assert expected.labels.any()
    assert (back != expected.labels).mean() < 0.01
    assert np.allclose(photo.windows[:, 2:], expected.windows[:, 2:], rtol=0.05)
    names = list(photo.faces[0].parts)
    assert names == list(expected.faces[0].parts)


def landmarks_and_box(frame: FaceFrame) -> list[float]:
    return [*box_in(frame), *landmarks_in(frame)]


def test_a_box_about_the_whole_photograph_is_the_whole_photograph(parser: FaceParser):
    rng = np.random.default_rng(3)
    pixels = draw_face(random_face(rng, "celebamask", 128), rng).image
    whole = parser.parse(pixels, framing="whole")
    boxed = parser.parse(pixels, boxes=box_in(FaceFrame(66, 62, 130)))
    assert np.array_equal(boxed.labels, whole.labels)
    assert np.array_equal(boxed.windows, whole.windows)
    assert np.array_equal(parser.parse(pixels).labels, whole.labels)


def test_no_boxes_are_no_faces(parser: FaceParser, two: np.ndarray):
    photo = parser.parse(two, boxes=[])
    assert photo.faces == ()
    assert photo.windows.shape == (0, 4)
    assert not photo.labels.any()
    assert (photo.probabilities.argmax(axis=0) == 0).all()
    assert photo.confidence is None
    assert repr(photo) == "ParsedPhoto(260 x 150 px, no faces)"
    assert json.loads(photo.to_json())["faces"] == []
    assert photo.overlay().width == 260


class TrueFaces:
    """Finds the faces of `two`, the second the surer."""

    def find(self, images: Sequence[np.ndarray]) -> list[list[FoundFace]]:
        return [[FoundFace(LEFT, 0.6), FoundFace(RIGHT, 0.9)] for _ in images]

    def settle(
        self, photo: np.ndarray, frames: Sequence[FaceFrame], is_exact: Sequence[bool]
    ) -> list[FoundFace]:
        """A face without landmarks lies a tenth further to the right than its box says."""
        return [
            FoundFace(frame if exact else replace(frame, x=frame.x + 0.1 * frame.side), 0.8)
            for frame, exact in zip(frames, is_exact, strict=True)
        ]


class HalfSure:
    """A face is as sure as it was found, its parts half as much."""

    def estimate(self, patches: PlacedPatches, frame: FaceFrame, score: float) -> Confidence:
        parts = {part.name: score / 2 for part in patches.label_set.parts}
        return Confidence(presence=1.0, face=score, parts=parts)


def test_faces_are_found_where_the_model_has_a_finder(
    parser: FaceParser, two: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ValueError, match="framing 'found' needs boxes: this model has no finder"):
        parser.parse(two, framing="found")
    with pytest.raises(ValueError, match="tells no confidence"):
        parser.parse(two, min_confidence=0.5)
    monkeypatch.setattr(parser, "finder", TrueFaces())
    monkeypatch.setattr(parser, "confidence", HalfSure())
    photo = parser.parse(two)
    assert [face.frame.x for face in photo.faces] == [RIGHT.x, LEFT.x]  # the surer first
    assert photo.confidence == pytest.approx(0.9)
    assert photo.faces[1].part_confidence == pytest.approx({p.name: 0.3 for p in PAPER9.parts})
    sure = parser.parse(two, min_confidence=0.7)
    assert (len(sure.faces), sure.left_out) == (1, 1)
    assert np.array_equal(sure.labels, photo.faces[0].labels)
    assert len(parser.parse(two, framing="whole").faces) == 1
    assert parser.parse(two, framing="whole").confidence is None
    boxed = parser.parse(two, boxes=[box_in(LEFT), landmarks_and_box(RIGHT)])
    assert [face.frame.x for face in boxed.faces] == pytest.approx([LEFT.x + 9.6, RIGHT.x])
    assert boxed.confidence == pytest.approx(0.8)
    for wrong in (-1, 2, float("nan")):
        with pytest.raises(ValueError, match="min_confidence must be from 0 to 1"):
            parser.parse(two, min_confidence=wrong)


def test_a_box_beside_the_photograph_is_said_to_be_beside_it(parser: FaceParser, two: np.ndarray):
    with pytest.raises(ValueError, match="lies beside the photograph of 260 x 150 px: perhaps"):
        parser.parse(two, boxes=[[900, 900, 990, 990]])


def test_saving_replaces_earlier_results_and_no_photograph(
    parser: FaceParser, two: np.ndarray, tmp_path: Path
):
    Image.fromarray(two).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (photo,) = parser(tmp_path / "a.png")
    with pytest.raises(
        ValueError, match=r"a\.png is a picture, not to be overwritten: give another"
    ):
        photo.save(tmp_path)
    assert (tmp_path / "a.png").read_bytes() == content
    first = photo.save(tmp_path, name="b")
    assert photo.save(tmp_path, name="b") == first
    assert [path.name for path in photo.faces[0].save(tmp_path, "labels")] == ["face.png"]
    assert [one.name for one in parser([two, two])] == ["0", "1"]


def test_wrong_ways_to_ask_are_said_in_words(parser: FaceParser, two: np.ndarray):
    with pytest.raises(ValueError, match="framing must be whole or found, got square"):
        parser.parse(two, framing="square")
    with pytest.raises(ValueError, match="boxes say where faces are"):
        parser.parse(two, boxes=[], framing="whole")
    with pytest.raises(ValueError, match="there are no photographs"):
        parser([])
    with pytest.raises(ValueError, match="device abacus can't be used"):
        FaceParser(device="abacus")


def test_a_call_takes_one_photograph_or_many_and_gives_a_list(
    parser: FaceParser, two: np.ndarray, tmp_path: Path
):
    Image.fromarray(two).save(tmp_path / "a.png")
    boxes = [box_in(LEFT), box_in(RIGHT)]
    rows = [",".join(map(str, ("a.png", *box))) for box in boxes]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    expected = parser.parse(two, boxes=boxes).labels
    for photos, of_each in (
        (two, boxes),
        ([two], [boxes]),
        (tmp_path, {"a.png": boxes}),
        (tmp_path, tmp_path / "boxes.csv"),
        (torch.from_numpy(two).permute(2, 0, 1), boxes),
    ):
        (photo,) = parser(photos, boxes=of_each)
        assert np.array_equal(photo.labels, expected)
    for photo in (
        parser.parse(tmp_path / "a.png", boxes=str(tmp_path / "boxes.csv")),
        parser.parse_all([tmp_path / "a.png"], boxes=tmp_path / "boxes.csv")[0],
        parser(two[..., ::-1], boxes=boxes, bgr=True)[0],
        parser.parse(two[..., ::-1], boxes=boxes, bgr=True),
        parser.parse_all([two[..., ::-1]], boxes=[boxes], bgr=True)[0],
    ):
        assert np.array_equal(photo.labels, expected)
    with pytest.raises(
        ValueError, match=r"boxes\.csv names none .* a\.png, they are without a name"
    ):
        parser.parse(two, boxes=tmp_path / "boxes.csv")
    assert len(parser([two, tmp_path / "a.png"])) == 2


def test_results_are_given_as_people_guess(parser: FaceParser, two: np.ndarray):
    photo = parser.parse(two, boxes=[box_in(LEFT), box_in(RIGHT)])
    face = photo.faces[1]
    assert repr(photo) == "ParsedPhoto(260 x 150 px, 2 faces)"
    assert repr(face) == "ParsedFace(at (190, 80), side 120 px, roll 0°)"
    assert {"nose", "mouth", "left_brow", "overall", "background"} <= set(photo.names)
    ids = [PAPER9.class_id[name] for name in ("upper_lip", "inner_mouth", "lower_lip")]
    assert np.array_equal(photo.mask("mouth"), np.isin(photo.labels, ids))
    with pytest.raises(ValueError, match="'hair' is not labelled; names are background, left_brow"):
        photo.mask("hair")
    assert np.array_equal(photo.probabilities.argmax(axis=0), photo.labels)
    assert np.allclose(photo.probability("mouth"), photo.probabilities[ids].sum(axis=0))
    for name, part in face.parts.items():
        ys, xs = np.nonzero(face.mask(name))
        assert part.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert part.centroid == pytest.approx((xs.mean() + 0.5, ys.mean() + 0.5))
        assert (part.contour >= part.box[:2]).all()
        assert (part.contour <= part.box[2:]).all()
    assert face.crop().size == (120, 120)
    assert face.crop(50).size == (50, 50)
    told = json.loads(photo.to_json())
    assert told["windows"] == told["faces"][0]["windows"]
    assert told["faces"][1]["frame"] == {"x": 190, "y": 80, "side": 120, "roll_deg": 0}


def test_saved_files_are_those_of_the_command(parser: FaceParser, two: np.ndarray, tmp_path: Path):
    Image.fromarray(two).save(tmp_path / "a.png")
    photo = parser.parse(tmp_path / "a.png", boxes=[box_in(LEFT), box_in(RIGHT)])
    assert repr(photo) == "ParsedPhoto('a.png', 260 x 150 px, 2 faces)"
    out = tmp_path / "out"
    assert [path.name for path in photo.save(out)] == ["a.png", "a_overlay.jpg", "a_windows.json"]
    photo.save(out, "masks, probabilities,crops")
    assert np.array_equal(np.asarray(Image.open(out / "a.png")), photo.labels)
    classes = json.loads((out / "classes.json").read_text())
    assert classes[1] == {"id": 2, "name": "left_brow", "colour": [128, 64, 0]}
    with zipfile.ZipFile(out / "a_masks.zip") as masks:
        nose = Image.open(io.BytesIO(masks.read("nose.png")))
        assert np.array_equal(np.asarray(nose), photo.mask("nose"))
    with zipfile.ZipFile(out / "a_crops.zip") as crops:
        assert crops.namelist() == ["0.png", "1.png"]
    with np.load(out / "a_probabilities.npz") as probs:
        assert np.allclose(probs["nose"], photo.probability("nose"), atol=1e-3)
    with pytest.raises(ValueError, match="--write must be of labels,overlay"):
        photo.save(out, "everything")


def test_a_gpu_without_memory_left_is_said_in_words(
    parser: FaceParser, two: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    def full(batch: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(parser.model, "forward", full)
    with pytest.raises(MemoryError, match="cpu has no memory left: parse fewer or smaller"):
        parser.parse(two)
