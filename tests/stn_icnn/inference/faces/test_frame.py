"""A face's frame: by box, by landmarks, and its map to the photograph."""

import math

import pytest
import torch

from stn_icnn.inference.faces.frame import FaceFrame, mean_landmarks
from stn_icnn.label_sets import PAPER9


def numbers(frame: FaceFrame) -> tuple[float, float, float, float]:
    return frame.x, frame.y, frame.side, frame.roll_deg


def test_a_frame_maps_its_crop_to_the_photograph():
    """By hand: 200 px of the photograph in 100 px of the crop, the face lying on its left cheek."""
    affine = FaceFrame(300, 400, 200, roll_deg=90).affine(100)
    points = torch.tensor([[50.0, 50.0, 1.0], [100.0, 50.0, 1.0], [50.0, 0.0, 1.0]])
    expected = torch.tensor([[300.0, 400.0], [300.0, 500.0], [400.0, 400.0]])
    torch.testing.assert_close(points @ affine.mT, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("roll_deg", [0.0, 20.0, -135.0])
def test_a_frame_is_known_by_its_affine(roll_deg: float):
    frame = FaceFrame(31.5, 70.25, 48, roll_deg)
    same = FaceFrame.from_affine(frame.affine(512), 512)
    assert numbers(same) == pytest.approx(numbers(frame), abs=1e-3)


def test_a_whole_photograph_is_framed_by_its_longer_side():
    assert FaceFrame.whole((300, 200)) == FaceFrame(150, 100, 300)


@pytest.mark.parametrize("is_left_first", [False, True])
@pytest.mark.parametrize("roll_deg", [0.0, 30.0, 180.0])
def test_landmarks_in_either_order_give_the_frame_of_the_mean_face(
    roll_deg: float, is_left_first: bool
):
    frame = FaceFrame(100, 80, 60, roll_deg)
    affine = frame.affine(1)
    landmarks = mean_landmarks(PAPER9) @ affine[:, :2].mT + affine[:, 2]
    if is_left_first:
        landmarks = landmarks[[1, 0, 2, 4, 3]]
    found = FaceFrame.from_landmarks(landmarks.tolist(), PAPER9)
    assert numbers(found)[:3] == pytest.approx((100, 80, 60), abs=0.01)
    turn = math.radians(found.roll_deg - roll_deg)
    assert math.cos(turn) == pytest.approx(1, abs=1e-5)


def test_a_box_from_forehead_to_chin_lies_in_its_frame_as_in_celebamask():
    """Skin of the median face of CelebAMask-HQ: 0.239, 0.180, 0.768, 0.928 of the image."""
    x0, y0, x1, y1 = (100 + 512 * share for share in (0.239, 0.180, 0.768, 0.928))
    frame = FaceFrame.from_box((x0, y0, x1, y1))
    assert numbers(frame) == pytest.approx((100 + 256, 100 + 256, 512, 0), abs=8)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((1, 2, 3), "a box must be x0, y0, x1, y1"),
        ((10, 10, 5, 20), "with x1 > x0 and y1 > y0, got"),
        ((0, 0, math.inf, 5), "finite numbers"),
    ],
)
def test_what_is_no_box_is_refused(box: tuple[float, ...], message: str):
    with pytest.raises(ValueError, match=message):
        FaceFrame.from_box(box)


def test_what_are_no_five_landmarks_is_refused():
    with pytest.raises(ValueError, match=r"landmarks must be five points"):
        FaceFrame.from_landmarks([(1, 2), (3, 4)], PAPER9)
    with pytest.raises(ValueError, match="a side above 0"):
        FaceFrame.from_landmarks([(1, 2)] * 5, PAPER9)
