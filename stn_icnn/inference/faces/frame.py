"""`FaceFrame`: the square of a photograph that a face is cut from, framed as in training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import torch
from torch import Tensor

from stn_icnn.checks import require
from stn_icnn.geometry import fit_similarity
from stn_icnn.labels import LabelSet

BOX_TO_SIDE: Final = 1.577
"""The side of a frame per geometric mean of the sides of the box from forehead to chin.

Measured on 500 faces of CelebAMask-HQ that no split holds, whose box is that of all that lies on
the face (skin, brows, eyes, glasses, nose, mouth; no ears or neck): the median, with a standard
deviation of 7 %. By the box' height alone it would be 9 %.
"""
BOX_CENTRE_Y: Final = 0.556
"""How far down the frame the centre of such a box lies, as a share of its side; its deviation is
0.027."""

NOSE_TIP_Y: Final = 0.04
"""How far below the centre of the nose its tip lies, as a share of the frame's side."""
MOUTH_CORNERS: Final = (0.105, -0.01)
"""The corner of the mouth at the subject's left beside the centre of the mouth, (x, y) as shares of
the frame's side; the other one is its mirror image."""


@dataclass(frozen=True)
class FaceFrame:
    """The square of a photograph that holds a face as the model's training faces are held.

    Convention: px of the photograph, (x, y) order, pixel centres at +0.5. The square may reach
    beyond the photograph.
    """

    x: float
    """Its centre, px from the left."""
    y: float
    """Its centre, px from the top."""
    side: float
    """Its side, px."""
    roll_deg: float = 0.0
    """The angle by which the face is turned clockwise as seen, degrees; upright at 0."""

    def __post_init__(self) -> None:
        numbers = (self.x, self.y, self.side, self.roll_deg)
        fits = all(map(math.isfinite, numbers)) and self.side > 0
        require(fits, "a face's frame", "finite numbers and a side above 0", numbers)

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Self:
        """Frames a whole photograph of (W, H) px, by its longer side."""
        return cls(size[0] / 2, size[1] / 2, float(max(size)))

    @classmethod
    def from_affine(cls, affine: Tensor, px: float = 1.0) -> Self:
        """Returns the frame whose `affine(px)` is a similarity, `[2, 3]` float32."""
        (a, _, x), (b, _, y) = affine.tolist()
        half = px / 2
        return cls(
            x=(a - b) * half + x,
            y=(a + b) * half + y,
            side=math.hypot(a, b) * px,
            roll_deg=math.degrees(math.atan2(b, a)),
        )

    @classmethod
    def from_box(cls, box: Sequence[float]) -> Self:
        """Frames the face of a detector's box, upright.

        Args:
            box: x0, y0, x1, y1 of the rectangle from forehead to chin, px, as RetinaFace, SCRFD,
                YuNet and others trained on WIDER FACE give it.

        Returns:
            The frame in which CelebAMask-HQ holds such a face.

        Raises:
            ValueError: these are not four finite numbers, or the box has no area.
        """
        require(len(box) == 4, "a box", "x0, y0, x1, y1", list(box))
        x0, y0, x1, y1 = map(float, box)
        require(x1 > x0 and y1 > y0, "a box", "x0, y0, x1, y1 with x1 > x0 and y1 > y0", list(box))
        side = BOX_TO_SIDE * math.sqrt((x1 - x0) * (y1 - y0))
        return cls((x0 + x1) / 2, (y0 + y1) / 2 + (0.5 - BOX_CENTRE_Y) * side, side)

    @classmethod
    def from_landmarks(cls, landmarks: Sequence[Sequence[float]], label_set: LabelSet) -> Self:
        """Frames a face by five landmarks: the similarity that brings the mean face nearest.

        Args:
            landmarks: `[5, 2]`, (x, y) px: one eye, the other, the tip of the nose, the corner of
                the mouth on the first eye's side, the other. Either side may come first: a face is
                told from its mirror image.
            label_set: its parts' centres are the mean face.

        Raises:
            ValueError: these are not five points, or they lie in one place.
        """
        points = torch.tensor([list(map(float, point)) for point in landmarks])
        require(points.shape == (5, 2), "landmarks", "five points (x, y)", list(points.shape))
        mean = mean_landmarks(label_set)
        fits = [fit_similarity(mean[order], points) for order in ([0, 1, 2, 3, 4], [1, 0, 2, 4, 3])]
        affine, _ = min(fits, key=lambda fit: float(fit[1]))
        return cls.from_affine(affine)

    def scaled(self, factor: float) -> "FaceFrame":
        """Returns the same frame in a copy of the photograph that is `factor` times as large."""
        return replace(self, x=factor * self.x, y=factor * self.y, side=factor * self.side)

    def affine(self, px: float) -> Tensor:
        """Returns the map from a crop of the frame to the photograph.

        Convention: px of the crop to px of the photograph; the crop is upright.

        Args:
            px: the side of the crop.

        Returns:
            `[2, 3]` float32.
        """
        angle, scale = math.radians(self.roll_deg), self.side / px
        a, b = scale * math.cos(angle), scale * math.sin(angle)
        half = px / 2
        return torch.tensor([[a, -b, self.x - (a - b) * half], [b, a, self.y - (a + b) * half]])


LANDMARK_PARTS: Final = ("right_eye", "left_eye", "nose", "mouth")
"""The parts that five landmarks are measured on."""


def mean_landmarks(label_set: LabelSet) -> Tensor:
    """Returns five landmarks of the mean face, `[5, 2]` float32, shares of the frame's side.

    They are the centre of the subject's right eye, of the left eye, the tip of the nose, the right
    and the left corner of the mouth. The tip and the corners are measured as BOX_TO_SIDE is.

    Raises:
        ValueError: the label set lacks one of these parts.
    """
    centre = {part.name: part.centre for part in label_set.parts}
    lacking = [name for name in LANDMARK_PARTS if name not in centre]
    require(not lacking, "landmarks", "left out where the model lacks their parts", lacking)
    nose, mouth = centre["nose"], centre["mouth"]
    beside, below = MOUTH_CORNERS
    return torch.tensor(
        [
            centre["right_eye"],
            centre["left_eye"],
            (nose[0], nose[1] + NOSE_TIP_Y),
            (mouth[0] - beside, mouth[1] + below),
            (mouth[0] + beside, mouth[1] + below),
        ]
    )
