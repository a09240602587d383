"""Faces cut out of photographs: where each pixel of a cut comes from."""

import numpy as np
import pytest
import torch

from stn_icnn.inference.faces.cutting import cut_face, cut_square, cut_whole, fit_to_scale
from stn_icnn.inference.faces.frame import FaceFrame
from stn_icnn.inference.photos.decoding import DecodedPhoto
from stn_icnn.networks.checkpoint import DataFacts

DATA = DataFacts(dataset="celebamask", fingerprint="abc", scale_px=32, scale_fit="exact")
WIDTH, HEIGHT = 240, 200


def ramp() -> DecodedPhoto:
    """A photograph whose red is its column, whose green its row."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[..., 0] = np.arange(WIDTH)
    pixels[..., 1] = np.arange(HEIGHT)[:, None]
    return DecodedPhoto(pixels, (WIDTH, HEIGHT))


@pytest.mark.parametrize("roll_deg", [0.0, 15.0, 90.0, -160.0])
@pytest.mark.parametrize("side", [20.0, 32.0, 61.5, 130.0])
def test_each_pixel_of_a_cut_comes_from_where_the_map_says(side: float, roll_deg: float):
    cut = cut_face(ramp(), FaceFrame(121.25, 98.5, side, roll_deg), DATA)
    assert cut.pixels.shape == (32, 32, 3)
    rows, columns = np.mgrid[:32, :32] + 0.5
    (a, b, x), (c, d, y) = cut.to_photo
    expected = np.stack([a * columns + b * rows + x, c * columns + d * rows + y], axis=-1) - 0.5
    inner = slice(3, -3)
    off = np.abs(cut.pixels[inner, inner, :2] - expected[inner, inner])
    assert off.max() < 1.1  # whole numbers, of pixels that were averaged


@pytest.mark.parametrize("roll_deg", [0.0, 45.0])
def test_beyond_the_photograph_its_edge_goes_on(roll_deg: float):
    photo = ramp()
    cut = cut_face(photo, FaceFrame(10, 100, 120, roll_deg), DATA).pixels
    corner = {0.0: (16, 0), 45.0: (30, 1)}[roll_deg]  # far to the left of the photograph
    assert cut[corner][0] <= 3  # the first columns, averaged
    far = cut_square(photo.pixels, photo.size, FaceFrame(120, 100, 600), 300)
    assert (far[0, 0] <= 1).all()
    assert (abs(far[-1, -1].astype(int) - (WIDTH - 1, HEIGHT - 1, 0)) <= 1).all()


@pytest.mark.parametrize("times", [1, 11], ids=["small", "averaged first"])
def test_a_frame_that_is_nearly_the_photograph_is_the_photograph(times: int):
    pixels = np.kron(ramp().pixels[:, :HEIGHT], np.ones((times, times, 1), np.uint8))
    photo = DecodedPhoto(pixels, (HEIGHT * times, HEIGHT * times))
    whole = cut_whole(photo, DATA)
    assert np.array_equal(whole.pixels, fit_to_scale(photo.pixels, DATA))
    near = cut_face(photo, FaceFrame(102, 97, 205, roll_deg=-3).scaled(times), DATA)
    assert np.abs(near.pixels.astype(int) - whole.pixels).max() <= times // 11
    assert (near.to_photo, near.frame) == (whole.to_photo, FaceFrame.whole(photo.size))
    for other in (FaceFrame(115, 97, 205), FaceFrame(102, 97, 230), FaceFrame(102, 97, 205, 20)):
        cut = cut_face(photo, other.scaled(times), DATA)
        assert not np.array_equal(cut.pixels, whole.pixels)


def test_a_photograph_that_is_not_large_is_taken_to_the_bit():
    photo = DecodedPhoto(ramp().pixels[:HEIGHT, :HEIGHT].copy(), (HEIGHT, HEIGHT))
    data = DataFacts(dataset="a", fingerprint="b", scale_px=HEIGHT // 2, scale_fit="exact")
    frame = FaceFrame.whole(photo.size)
    assert np.array_equal(cut_face(photo, frame, data).pixels, cut_whole(photo, data).pixels)


def test_a_frame_of_a_reduced_copy_is_in_the_whole_photograph_s_pixels():
    photo = ramp()
    copy = DecodedPhoto(photo.pixels, (2 * WIDTH, 2 * HEIGHT))
    frame = FaceFrame(120, 90, 64)
    twice = FaceFrame(240, 180, 128)
    assert np.array_equal(cut_face(copy, twice, DATA).pixels, cut_face(photo, frame, DATA).pixels)
    assert torch.tensor(cut_face(copy, twice, DATA).to_photo)[0, 0] == 4


def test_a_small_face_is_not_enlarged_for_a_model_of_faces_of_many_sizes():
    data = DataFacts(dataset="helen", fingerprint="abc", scale_px=64, scale_fit="at_most")
    assert cut_face(ramp(), FaceFrame(100, 100, 40), data).pixels.shape == (40, 40, 3)
    assert cut_face(ramp(), FaceFrame(100, 100, 100), data).pixels.shape == (64, 64, 3)


def test_a_frame_beside_the_photograph_is_refused():
    with pytest.raises(ValueError, match="lies beside the photograph of 240 x 200 px"):
        cut_face(ramp(), FaceFrame(1000, 100, 40), DATA)
