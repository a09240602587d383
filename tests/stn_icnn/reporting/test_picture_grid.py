"""Pictures in rows: where they lie, and what they are made of."""

import numpy as np

from stn_icnn.reporting.picture_grid import GAP_PX, fitted, framed, picture_grid

RED, BLUE = (200, 0, 0), (0, 0, 200)


def plain(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def spans(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last row, first and last column, of a mask."""
    return [(int(at[0]), int(at[-1])) for at in (np.flatnonzero(mask.any(axis=a)) for a in (1, 0))]


def test_rows_and_columns_line_up() -> None:
    tall, small = plain(40, 20, RED), plain(20, 30, BLUE)
    out = picture_grid([("one", [tall, small]), ("another one", [small, small])])
    (top, bottom), (left, right) = spans((out == RED).all(axis=2))
    assert (top, bottom, right - left + 1) == (GAP_PX, GAP_PX + 39, 20)
    blue = (out == BLUE).all(axis=2)
    second_column = left + 30 + GAP_PX  # the first one's widest is in the second row
    assert spans(blue[: bottom + 1]) == [(top, top + 19), (second_column, second_column + 29)]
    assert spans(blue[bottom + 1 :])[1] == (left, second_column + 29)
    assert out.shape[0] == 40 + 20 + 3 * GAP_PX
    assert out.shape[1] == second_column + 30 + GAP_PX
    names = out[:, : left - 1]
    assert (names < 128).any()  # something is written there
    assert not (names == RED).all(axis=2).any()


def test_a_picture_alone_lies_across_the_columns() -> None:
    wide, small = plain(20, 90, RED), plain(20, 30, BLUE)
    out = picture_grid([("one", [wide]), ("two", [small, small])])
    _, (left, right) = spans((out == RED).all(axis=2))
    assert right - left == 89
    _, (first, last) = spans((out == BLUE).all(axis=2))
    assert (first, last) == (left, left + 30 + GAP_PX + 29)
    assert out.shape[1] == right + 1 + GAP_PX
    alone = picture_grid([("one", [wide]), ("two", [small])])
    assert alone.shape[1] == out.shape[1]


def test_fitted_keeps_the_aspect() -> None:
    assert fitted(plain(100, 50, RED), 20).shape == (20, 10, 3)
    assert fitted(plain(3, 5, RED), 50).shape == (30, 50, 3)
    assert (fitted(plain(100, 50, RED), 20) == RED).all()


def test_a_frame_lies_on_the_edge_alone() -> None:
    picture = plain(10, 12, BLUE)
    out = framed(picture, RED, width_px=2)
    assert (out[2:-2, 2:-2] == BLUE).all()
    assert (out == RED).all(axis=2).sum() == 10 * 12 - 6 * 8
    assert (picture == BLUE).all()
