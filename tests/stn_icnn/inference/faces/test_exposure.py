"""The light of faces: what is far too dark is brightened, all else is left alone."""

import numpy as np
import pytest

from sharding.procedural.drawing import draw_face
from sharding.procedural.random_face import random_face
from stn_icnn.inference.faces.exposure import brighten_dark


def skin(*values: int) -> np.ndarray:
    """A face of one colour, with a little of others."""
    face = np.full((64, 64, 3), values, np.uint8)
    face[::8, ::8] //= 2
    return face


def test_faces_in_common_light_are_left_alone():
    for seed in range(8):
        rng = np.random.default_rng(seed)
        face = draw_face(random_face(rng, "celebamask", 96), rng).image
        assert brighten_dark(face) is face


@pytest.mark.parametrize("light", [0.1, 0.25, 0.4])
def test_a_dark_face_is_brightened_and_keeps_its_colours(light: float):
    face = skin(190, 165, 150)
    mended = brighten_dark((face * light).round().astype(np.uint8))
    ratio = mended[20, 20] / face[20, 20]
    assert mended[20, 20].astype(float) @ (0.299, 0.587, 0.114) == pytest.approx(214, abs=3)
    assert ratio == pytest.approx(ratio.mean(), rel=0.04)


def test_an_overexposed_face_is_left_alone():
    over = skin(255, 255, 234)
    assert brighten_dark(over) is over


def test_a_black_picture_stays_as_it_is():
    assert not brighten_dark(np.zeros((10, 10, 3), np.uint8)).any()
    assert brighten_dark(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)
