"""Faces found in photographs: where frames that were seen lie, and how faces are fitted."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.faces import finding
from stn_icnn.inference.faces.finding import MOST_RESIDUAL, SURE_FIT, FaceFinder, FoundFace
from stn_icnn.inference.faces.frame import FaceFrame
from stn_icnn.networks.checkpoint import load_checkpoint
from stn_icnn.networks.face_votes import VotedFaces
from stn_icnn.networks.finder import FinderOutput


def photo_of(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((300, 200), (64, 42)), ((30, 20), (64, 42)), ((1, 1), (64, 64)), ((16, 4000), (16, 64))],
)
def test_photographs_are_brought_to_one_size_in_whole_cells(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    """No side is below the 16 px that the finder needs."""
    assert finding._reduced(photo_of(*size), 64).shape == (*expected[::-1], 3)


def turned_quarters(frame: FaceFrame, turns: int, width: int, height: int) -> FaceFrame:
    """A frame of a photograph that is turned counter-clockwise as seen, by hand."""
    x, y = frame.x, frame.y
    at = {0: (x, y), 1: (y, width - x), 2: (width - x, height - y), 3: (height - y, x)}[turns]
    return FaceFrame(*at, frame.side, frame.roll_deg - 90 * turns)


def row_of(frame: FaceFrame) -> list[float]:
    angle = math.radians(frame.roll_deg)
    return [frame.x, frame.y, frame.side, math.cos(angle), math.sin(angle)]


def voted(*frames: FaceFrame) -> VotedFaces:
    rows = np.array([row_of(frame) for frame in frames], np.float32)
    return VotedFaces(rows.reshape(-1, 5), np.ones(len(frames), np.float32))


SIZES = [(120, 120), (160, 90), (90, 160)]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_what_is_seen_in_a_turned_photograph_lies_where_it_was(
    turns: int, width: int, height: int
) -> None:
    """The photograph is twice as large as what was seen."""
    true = FaceFrame(70, 36, 40, 25)
    photo, reduced = photo_of(2 * width, 2 * height), photo_of(width, height)
    seen = voted(turned_quarters(true, turns, width, height))
    (frame,) = finding._frames_in(photo, reduced, seen, turns)
    expected = row_of(FaceFrame(140, 72, 80, 25))
    assert frame == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_pixels_of_a_turned_photograph_agree(turns: int, width: int, height: int) -> None:
    """`turned_quarters` is how the finder turns pictures: a bright pixel goes along."""
    photo = np.zeros((height, width, 3), np.uint8)
    photo[36, 70] = 255
    at = turned_quarters(FaceFrame(70.5, 36.5, 9), turns, width, height)
    assert np.rot90(photo, turns)[int(at.y), int(at.x), 0] == 255


def fitted(square: FaceFrame, within: FaceFrame, residual: float = 0.0, **facts: object):
    """The square of a face that lies in a square as `within` says, in shares of its side."""
    one = finding._Square(3, square)
    known = {"is_enough": True, "sure": 0.9} | facts
    return one.fitted(within.affine(1.0), residual, **known)


def test_a_face_that_is_as_the_square_has_it_stays() -> None:
    square = FaceFrame(200, 120, 80, 30)
    one = fitted(square, FaceFrame(0.51, 0.5, 1.05, 3))
    assert one.photo == 3
    assert not one.has_moved
    assert one.fit == pytest.approx(0.9)
    assert one.frame.roll_deg == pytest.approx(33, abs=1e-3)


def test_turns_sides_and_offsets_of_a_face_within_a_square_add_up() -> None:
    """By hand: right and down of a square that lies on its side are down and left as seen."""
    one = fitted(FaceFrame(200, 120, 80, 90), FaceFrame(0.75, 0.625, 0.5, 30))
    assert (one.frame.x, one.frame.y) == pytest.approx((200 - 10, 120 + 20), abs=1e-3)
    assert one.frame.side == pytest.approx(40)
    assert one.frame.roll_deg == pytest.approx(120, abs=1e-3)
    assert one.has_moved


@pytest.mark.parametrize(
    "within",
    [FaceFrame(0.55, 0.5, 1), FaceFrame(0.5, 0.5, 1.2), FaceFrame(0.5, 0.5, 1, -8)],
    ids=["beside", "larger", "turned"],
)
def test_a_face_that_is_elsewhere_is_labelled_again(within: FaceFrame) -> None:
    assert fitted(FaceFrame(50, 50, 40), within).has_moved


def test_a_turn_goes_once_round_at_the_most() -> None:
    one = fitted(FaceFrame(50, 50, 40, 170), FaceFrame(0.5, 0.5, 1, 30))
    assert one.frame.roll_deg == pytest.approx(-160, abs=1e-3)


def test_a_fit_is_worse_the_farther_parts_lie_and_the_less_sure_labels_are() -> None:
    square, within = FaceFrame(50, 50, 40), FaceFrame(0.5, 0.5, 0.5)
    half = fitted(square, within, residual=0.25 * MOST_RESIDUAL)  # of a frame half as large
    assert half.fit == pytest.approx(0.45)
    assert fitted(square, within, residual=MOST_RESIDUAL).fit == 0
    assert fitted(square, within, sure=0.5).fit == pytest.approx(0.5)


def test_too_few_parts_are_no_face() -> None:
    one = fitted(FaceFrame(50, 50, 40), FaceFrame(0.7, 0.5, 2), is_enough=False)
    assert (one.fit, one.has_moved) == (0, False)
    assert one.frame == FaceFrame(50, 50, 40)


def test_of_two_findings_of_one_face_the_surer_stays() -> None:
    one, same = FoundFace(FaceFrame(50, 50, 60, 5), 0.6), FoundFace(FaceFrame(53, 50, 55), 0.8)
    other = FoundFace(FaceFrame(150, 50, 60), 0.7)
    assert finding._apart([one, same, other]) == [same, other]


@pytest.fixture(scope="module")
def finder(finding_parent: Path) -> FaceFinder:
    finder = FaceParser(load_checkpoint(finding_parent), "cpu").finder
    assert finder is not None
    return finder


@pytest.mark.parametrize(
    ("seen", "fit", "expected"),
    [
        (FaceFrame(48, 42, 36, 20), 0.8, FaceFrame(48, 42, 36, 20)),
        (FaceFrame(48, 42, 36, 20), 0.0, None),
        (FaceFrame(80, 42, 36, 20), 0.8, None),
        (FaceFrame(48, 42, 70, 20), 0.8, None),
    ],
    ids=["it", "none", "another beside it", "another about it"],
)
def test_a_given_frame_that_is_rough_becomes_that_of_the_face_in_it(
    finder: FaceFinder,
    monkeypatch: pytest.MonkeyPatch,
    seen: FaceFrame,
    fit: float,
    expected: FaceFrame | None,
) -> None:
    """The coarse network labels a face, another at each of two times: the last one counts."""
    given, labelled = FaceFrame(50, 40, 40), []

    def fit_once(photos, squares):
        labelled.extend(square.frame for square in squares)
        is_second = len(labelled) > 2
        frame = seen if is_second else FaceFrame(50, 40, 44)
        return [
            replace(one, frame=frame, fit=fit if is_second else 0.5, has_moved=not is_second)
            for one in squares
        ]

    monkeypatch.setattr(finder, "_fit", fit_once)
    exact, rough = finder.settle(photo_of(100, 80), [given, given], [True, False])
    assert exact == FoundFace(given, 0.5)
    assert rough == (FoundFace(given, 0.5) if expected is None else FoundFace(expected, fit))
    assert labelled == [given, given, FaceFrame(50, 40, 44)]


@pytest.fixture
def seeing(finder: FaceFinder, monkeypatch: pytest.MonkeyPatch):
    """seeing(faces): the finder with another pair of eyes.

    `faces` tells by the quarters that the pictures are turned which frames, in px of the
    photograph, are seen in each, and how well each fits. Every look is noted in `looks`.
    """
    looks: list[tuple[int, int]] = []

    def make(faces: dict[int, list[tuple[FaceFrame, float]]]) -> tuple[FaceFinder, list]:
        def see(photos, reduced, chosen, turns):
            looks.append((turns, len(chosen)))
            seen = faces.get(turns, [])
            return [
                finding._Square(i, frame, fit, has_moved=False)
                for i in chosen
                for frame, fit in seen
            ]

        monkeypatch.setattr(finder, "_seen", see)
        monkeypatch.setattr(finder, "_fitted", lambda photos, squares: squares)
        return finder, looks

    return make


def test_a_photograph_that_a_sure_face_fills_is_looked_at_once(seeing) -> None:
    face = FaceFrame(40, 30, 50)
    finder, looks = seeing({0: [(face, SURE_FIT)], 2: [(FaceFrame(90, 30, 30), 0.5)]})
    assert finder.find([photo_of(120, 60)]) == [[FoundFace(face, SURE_FIT)]]
    assert [(turns, number) for turns, number in looks if number] == [(0, 1)]


def test_a_turned_face_is_found_beside_a_sure_one(seeing) -> None:
    upright, turned = FaceFrame(30, 30, 30), FaceFrame(90, 30, 30, 180)
    finder, _ = seeing({0: [(upright, 0.9)], 2: [(turned, 0.8)]})
    (faces,) = finder.find([photo_of(120, 60)])
    assert [face.frame for face in faces] == [upright, turned]


def test_without_a_sure_face_it_is_looked_at_turned_by_quarters_too(seeing) -> None:
    unsure, sure = FaceFrame(40, 30, 30), FaceFrame(90, 30, 30, 180)
    finder, looks = seeing({0: [(unsure, SURE_FIT - 0.1)], 2: [(sure, 0.8)]})
    (faces,) = finder.find([photo_of(120, 60)])
    assert [face.frame for face in faces] == [sure, unsure]
    assert looks == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_faces_whose_centre_is_beyond_the_photograph_are_dropped(seeing) -> None:
    inside = [FaceFrame(1, 10, 30), FaceFrame(119, 59, 30)]
    beyond = [FaceFrame(-1, 55, 30), FaceFrame(121, 5, 30)]
    beyond += [FaceFrame(60, 61, 20), FaceFrame(60, -2, 20)]
    finder, _ = seeing({0: [(frame, 0.8) for frame in inside + beyond]})
    (faces,) = finder.find([photo_of(120, 60)])
    assert [face.frame for face in faces] == inside


def test_no_photographs_have_no_faces(finder: FaceFinder) -> None:
    assert finder.find([]) == []


ODD_SIZES = [(1, 1), (16, 4000), (4000, 16), (37, 53), (64, 64), (300, 300)]


def test_a_finder_that_knows_nothing_fails_on_no_size(finder: FaceFinder) -> None:
    photos = [photo_of(width, height) for width, height in ODD_SIZES]
    found = finder.find(photos)
    assert len(found) == len(photos)
    for (width, height), faces in zip(ODD_SIZES, found, strict=True):
        for face in faces:
            assert 0 <= face.frame.x <= width
            assert 0 <= face.frame.y <= height
            assert 0 < face.score <= 1


def test_what_is_seen_everywhere_fails_on_no_size_either(
    finder: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells that all vote, each for a face of its own: most squares lie partly beyond."""

    def see(pictures: Tensor) -> FinderOutput:
        num, _, height, width = pictures.shape
        cells = (num, height // 2, width // 2)
        votes = torch.zeros(num, 5, *cells[1:])
        votes[:, 2], votes[:, 3] = -1.0, 1.0
        return FinderOutput(torch.zeros(num, 9, *cells[1:]), torch.full(cells, 6.0), votes)

    monkeypatch.setattr(finder._model, "look_for_faces", see)
    squares = []
    monkeypatch.setattr(
        finder, "_fit", lambda photos, some: squares.extend(some) or _fitted_anyhow(some)
    )
    found = finder.find([photo_of(width, height) for width, height in ODD_SIZES])
    assert {square.photo for square in squares} == set(range(len(ODD_SIZES)))
    assert all(found)


def _fitted_anyhow(squares):
    return [replace(one, fit=0.5, has_moved=False) for one in squares]


def test_each_photograph_is_found_its_own_faces(
    finder: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photographs of one size are looked at together, and come back in their order."""
    monkeypatch.setattr(finding, "LOOKS_AT_ONCE", 2)
    pictures = [photo_of(48, 32) // (1 + i) for i in range(3)] + [photo_of(32, 48)]
    together = finder._look(pictures)
    for picture, faces in zip(pictures, together, strict=True):
        (alone,) = finder._look([picture])
        assert np.allclose(alone.frames, faces.frames, atol=1e-3)
        assert np.allclose(alone.scores, faces.scores, atol=1e-4)
