"""The light of faces: what is far too dark or too bright is mended, all else is left alone."""

import numpy as np
import pytest

from sharding.procedural.drawing import draw_face
from sharding.procedural.random_face import random_face
from stn_icnn.inference.exposure import even_exposure


def skin(*values: int) -> np.ndarray:
    """A face of one colour, with a little of others."""
    face = np.full((64, 64, 3), values, np.uint8)
    face[::8, ::8] //= 2
    return face


def test_faces_in_common_light_are_left_alone():
    for seed in range(8):
        rng = np.random.default_rng(seed)
        face = draw_face(random_face(rng, "celebamask", 96), rng).image
        assert even_exposure(face) is face


@pytest.mark.parametrize("light", [0.1, 0.25, 0.4])
def test_a_dark_face_is_brightened_and_keeps_its_colours(light: float):
    face = skin(190, 165, 150)
    mended = even_exposure((face * light).round().astype(np.uint8))
    ratio = mended[20, 20] / face[20, 20]
    assert mended[20, 20].astype(float) @ (0.299, 0.587, 0.114) == pytest.approx(214, abs=3)
    assert ratio == pytest.approx(ratio.mean(), rel=0.04)


def test_an_overexposed_face_gets_back_the_colours_that_were_clipped():
    face = skin(208, 156, 130)
    over = (face * 1.8).clip(0, 255).astype(np.uint8)
    assert over[20, 20].tolist() == [255, 255, 234]
    mended = even_exposure(over).astype(int)[20, 20]
    assert mended[0] > mended[1] > mended[2]
    assert mended.tolist() == [255, 234, 195]


def test_a_black_picture_stays_as_it_is():
    assert not even_exposure(np.zeros((10, 10, 3), np.uint8)).any()
    assert even_exposure(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)
