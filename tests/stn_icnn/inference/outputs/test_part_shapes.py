"""Boxes, centroids and outlines of masks, by hand."""

import numpy as np

from stn_icnn.inference.outputs.part_shapes import outline, part_shape


def mask(*rows: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def test_a_part_is_measured_in_the_photograph_s_pixels():
    shape = part_shape("nose", mask("....", ".##.", ".#.."), (10, 20), 0.5)
    assert shape is not None
    assert (shape.name, shape.num_pixels, shape.confidence) == ("nose", 3, 0.5)
    assert shape.box == (11, 21, 13, 23)
    assert shape.centroid == (11.5 + 1 / 3, 21.5 + 1 / 3)
    corners = [(11, 21), (13, 21), (13, 22), (12, 22), (12, 23), (11, 23)]
    assert {tuple(corner) for corner in shape.contour.tolist()} == set(corners)
    assert repr(shape) == "FacePart(nose at (12, 22), 3 px)"


def test_a_part_without_pixels_has_no_shape():
    assert part_shape("nose", mask("..", ".."), (0, 0)) is None


def test_an_outline_goes_clockwise_round_the_largest_piece_and_its_holes():
    corners = outline(mask("#....", "..###", "..#.#", "..###")).tolist()
    start = corners.index([2, 1])
    assert corners[start:] + corners[:start] == [[2, 1], [5, 1], [5, 4], [2, 4]]


def test_pixels_that_touch_at_a_corner_are_two_pieces():
    assert sorted(outline(mask("##.", "##.", "..#")).tolist()) == [[0, 0], [0, 2], [2, 0], [2, 2]]
