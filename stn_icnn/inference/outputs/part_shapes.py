"""The shape of a labelled part: its box, its centroid, its outline."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FacePart:
    """A part of a face, as its labels show it.

    Convention: px of the photograph, (x, y) order, pixel centres at +0.5.
    """

    name: str
    """As in the label set."""
    num_pixels: int
    """How many pixels are labelled as one of its classes."""
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1: the edges of the pixels that lie furthest out."""
    centroid: tuple[float, float]
    """The mean of its pixels' centres."""
    mask: NDArray[np.bool_]
    """`[h, w]`: which pixels of the box are its own."""
    confidence: float | None = None
    """The probability that its F1 is at least 0.85; None where the model does not tell."""

    @cached_property
    def contour(self) -> NDArray[np.float32]:
        """`[K, 2]`: the corners of its largest piece's outline, clockwise as seen, along the edges
        of pixels."""
        return outline(self.mask) + np.array(self.box[:2], np.float32)

    def __repr__(self) -> str:
        x, y = self.centroid
        return f"FacePart({self.name} at ({x:.0f}, {y:.0f}), {self.num_pixels} px)"


def part_shape(
    name: str, mask: NDArray[np.bool_], corner: tuple[int, int], confidence: float | None = None
) -> FacePart | None:
    """Measures a part.

    Args:
        name: the part's.
        mask: `[h, w]`, its pixels.
        corner: x, y of the mask's top left corner in the photograph, px.
        confidence: the part's.

    Returns:
        None for a part without pixels.
    """
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return None
    x, y = corner
    x0, x1, y0, y1 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
    return FacePart(
        name,
        len(xs),
        (int(x0) + x, int(y0) + y, int(x1) + x, int(y1) + y),
        (float(xs.mean()) + 0.5 + x, float(ys.mean()) + 0.5 + y),
        mask[y0:y1, x0:x1],
        confidence,
    )


def outline(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Follows the outline of a mask's largest piece, along the edges of its pixels.

    Pixels that touch at a corner alone do not belong together. A piece is as large as what its
    outline encloses, holes included.

    Args:
        mask: `[h, w]`, with a pixel or more.

    Returns:
        `[K, 2]` float32, the corners (x, y), clockwise as seen.
    """
    return max(_loops(_steps(mask)), key=_enclosed)


def _steps(mask: NDArray[np.bool_]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Returns the steps along the edges between pixels and what is beside them, the pixels to the
    right: by each corner of the grid (x, y), the directions that lead on from it."""
    inside = np.pad(mask, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (down, across), (at_x, at_y), step in (
        ((-1, 0), (0, 0), (1, 0)),  # nothing above: to the right along the upper edge
        ((0, 1), (1, 0), (0, 1)),
        ((1, 0), (1, 1), (-1, 0)),
        ((0, -1), (0, 1), (0, -1)),
    ):
        beside = np.roll(inside, (-down, -across), axis=(0, 1))
        ys, xs = np.nonzero(inside & ~beside)
        for x, y in zip((xs - 1 + at_x).tolist(), (ys - 1 + at_y).tolist(), strict=True):
            steps.setdefault((x, y), []).append(step)
    return steps


def _loops(
    steps: dict[tuple[int, int], list[tuple[int, int]]],
) -> list[NDArray[np.float32]]:
    """Links steps to closed outlines, `[K, 2]` each, of which only the corners are kept."""
    loops = []
    while steps:
        start = at = next(iter(steps))
        corners: list[tuple[int, int]] = []
        heading = (0, 0)
        while at in steps:
            ways = steps[at]
            right = (-heading[1], heading[0])
            step = right if right in ways else ways[0]
            ways.remove(step)
            if not ways:
                del steps[at]
            if step != heading:
                corners.append(at)
            heading, at = step, (at[0] + step[0], at[1] + step[1])
            if at == start:
                break
        loops.append(np.array(corners, np.float32))
    return loops


def _enclosed(corners: Sequence[Sequence[float]] | NDArray[np.float32]) -> float:
    """Returns the area that an outline encloses; below 0 for that of a hole."""
    x, y = np.asarray(corners, np.float64).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
