"""How far labels can be trusted: the signs, and what the weights make of them."""

import math
from collections.abc import Mapping

import pytest
import torch

from stn_icnn.inference.faces.confidence import (
    FACE,
    PRESENCE,
    SIGNS,
    ConfidenceEstimator,
    signs_of_trust,
)
from stn_icnn.inference.faces.frame import FaceFrame
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.pasting import PlacedPatches

PARTS = [part.name for part in PAPER9.parts]
MEAN_FACE = torch.tensor([part.centre for part in PAPER9.parts])
FRAME = FaceFrame(300, 200, 512, 20)
EXPECTED_F1, OF_THE_FACE, SCORE, SIZE, MISFIT, OFFSET = range(len(SIGNS))


def patch(part: int, labelled: float, px: int = 4) -> torch.Tensor:
    """A part's probabilities: its half is labelled with a probability, the rest is background."""
    num = 1 + len(PAPER9.part_classes[part])
    probs = torch.zeros(num, px, px)
    probs[1, :, : px // 2] = labelled
    probs[0] = 1 - probs[1:].sum(dim=0)
    return probs


def patches_in(
    frame: FaceFrame,
    labelled: float | Mapping[str, float] = 0.9,
    window_share: float = 0.2,
    moved: tuple[float, float] = (0.0, 0.0),
) -> PlacedPatches:
    """The patches of a face whose windows lie where the mean face has its parts in a frame."""
    affine = frame.affine(1.0)
    centres = MEAN_FACE @ affine[:, :2].mT + affine[:, 2] + torch.tensor(moved)
    side = window_share * frame.side
    known = labelled if isinstance(labelled, Mapping) else dict.fromkeys(PARTS, labelled)
    probs = {i: patch(i, known[name]) for i, name in enumerate(PARTS)}
    windows = [(float(x), float(y), side, side) for x, y in centres]
    return PlacedPatches(probs, windows, frame.roll_deg, PAPER9)


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_the_expected_f1_is_that_of_the_labelled_pixels_probabilities() -> None:
    """Of 16 pixels 8 are labelled, each right at 0.9: 2 x 7.2 / (8 + 7.2)."""
    signs = signs_of_trust(patches_in(FRAME), FRAME, 0.8, MEAN_FACE)
    assert set(signs) == {FACE, *PARTS}
    f1 = 2 * 7.2 / (8 + 7.2)
    for of_part in signs.values():
        assert of_part.shape == (len(SIGNS),)
        assert of_part[EXPECTED_F1] == pytest.approx(log_odds(f1), abs=1e-4)
        assert of_part[OF_THE_FACE] == pytest.approx(log_odds(f1), abs=1e-4)
        assert of_part[SCORE] == pytest.approx(log_odds(0.8))


def test_surer_labels_promise_a_higher_f1_of_their_part_and_of_the_face() -> None:
    sure = dict.fromkeys(PARTS, 0.7) | {"nose": 0.99}
    doubtful = signs_of_trust(patches_in(FRAME, 0.7), FRAME, 0.8, MEAN_FACE)
    better = signs_of_trust(patches_in(FRAME, sure), FRAME, 0.8, MEAN_FACE)
    assert better["nose"][EXPECTED_F1] > doubtful["nose"][EXPECTED_F1] + 1
    assert better["mouth"][EXPECTED_F1] == pytest.approx(doubtful["mouth"][EXPECTED_F1])
    assert better["mouth"][OF_THE_FACE] > doubtful["mouth"][OF_THE_FACE]
    assert better["nose"][OF_THE_FACE] == better[FACE][EXPECTED_F1]


def test_a_part_counts_by_its_size_in_the_face() -> None:
    """The face's F1 is that of all its pixels: a large nose that is sure outweighs small eyes."""
    small = patches_in(FRAME, dict.fromkeys(PARTS, 0.6) | {"nose": 0.99})
    windows = list(small.windows)
    x, y, side, _ = windows[PARTS.index("nose")]
    windows[PARTS.index("nose")] = (x, y, 3 * side, 3 * side)
    large = PlacedPatches(small.probs, windows, small.roll_deg, PAPER9)
    of_small = signs_of_trust(small, FRAME, 0.8, MEAN_FACE)
    of_large = signs_of_trust(large, FRAME, 0.8, MEAN_FACE)
    assert of_large[FACE][EXPECTED_F1] > of_small[FACE][EXPECTED_F1] + 0.5
    right, both = 5 * 8 * 0.6 + 9 * 8 * 0.99, 5 * 8 * 1.6 + 9 * 8 * 1.99
    assert of_large[FACE][EXPECTED_F1] == pytest.approx(log_odds(2 * right / both), abs=1e-4)


def test_a_face_without_labels_promises_nothing() -> None:
    signs = signs_of_trust(patches_in(FRAME, 0.0), FRAME, 0.8, MEAN_FACE)
    assert signs[FACE][EXPECTED_F1] == pytest.approx(log_odds(0.001))


@pytest.mark.parametrize(("side", "sign"), [(64, -3.0), (256, -1.0), (512, 0.0), (2000, 0.0)])
def test_small_faces_are_told_from_large_ones_and_these_are_alike(side: float, sign: float) -> None:
    frame = FaceFrame(300, 200, side)
    signs = signs_of_trust(patches_in(frame), frame, 0.8, MEAN_FACE)
    assert signs[FACE][SIZE] == pytest.approx(sign)
    assert signs["nose"][SIZE] == pytest.approx(sign)


def test_windows_of_the_mean_face_fit_it_in_any_frame() -> None:
    for frame in (FRAME, FaceFrame(40, 50, 64, -130)):
        signs = signs_of_trust(patches_in(frame), frame, 0.8, MEAN_FACE)
        assert signs[FACE][MISFIT] == pytest.approx(0, abs=1e-4)
        assert signs[FACE][OFFSET] == pytest.approx(0, abs=1e-4)


def test_a_frame_that_was_cut_beside_the_face_is_a_sign() -> None:
    """Moved by 51.2 px, a tenth of the frame's side; cut 1.1 times as large, 0.095 of a log."""
    moved = patches_in(FRAME, moved=(51.2, 0.0))
    signs = signs_of_trust(moved, FRAME, 0.8, MEAN_FACE)
    assert signs[FACE][OFFSET] == pytest.approx(0.1, abs=1e-3)
    assert signs[FACE][MISFIT] == pytest.approx(0, abs=1e-4)
    larger = FaceFrame(FRAME.x, FRAME.y, 1.1 * FRAME.side, FRAME.roll_deg)
    signs = signs_of_trust(patches_in(FRAME), larger, 0.8, MEAN_FACE)
    assert signs[FACE][OFFSET] == pytest.approx(math.log(1.1), abs=1e-3)


def test_a_face_unlike_the_mean_face_is_a_sign() -> None:
    own = MEAN_FACE.clone()
    own[PARTS.index("nose"), 0] += 0.2
    signs = signs_of_trust(patches_in(FRAME), FRAME, 0.8, own)
    assert signs[FACE][MISFIT] > 0.03


def estimate(calibration: Mapping[str, list[float]], score: float = 0.8):
    estimator = ConfidenceEstimator(calibration, MEAN_FACE)
    frame = FaceFrame(300, 200, 128)
    return estimator.estimate(patches_in(frame), frame, score)


def test_weights_give_the_probability() -> None:
    """By hand: the size sign of 128 px is -2; the score's log odds at 0.8 are ln 4."""
    of_size, of_score, none = [0.0] * 7, [0.0] * 7, [0.0] * 7
    of_size[SIZE], of_size[-1] = 1.5, 1.0  # 1.5 x -2 + 1 = -2
    of_score[SCORE] = 1.0
    calibration = dict.fromkeys(PARTS, none) | {FACE: of_size, PRESENCE: of_score}
    sure = estimate(calibration | {"nose": [*none[:-1], 100.0]})
    assert sure.face == pytest.approx(1 / (1 + math.exp(2)))
    assert sure.presence == pytest.approx(0.8)
    assert sure.parts["mouth"] == pytest.approx(0.5)
    assert sure.parts["nose"] == pytest.approx(1)
    assert list(sure.parts) == PARTS


def test_surer_signs_of_positive_weight_give_more_confidence() -> None:
    weights = [0.5, 0.5, 0.5, 0.1, -1.0, -1.0, 0.0]
    calibration = dict.fromkeys((PRESENCE, FACE, *PARTS), weights)
    low, high = estimate(calibration, score=0.3), estimate(calibration, score=0.9)
    assert low.face < high.face
    assert all(low.parts[name] < high.parts[name] for name in PARTS)
