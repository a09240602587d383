"""Faces of coloured blocks: where each part lies, and on which side, is known to the pixel."""

import torch
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.label_sets import PAPER9
from tests.samples import Sample, collate

WIDTH, HEIGHT = 100, 120
LEFT_COLOUR, RIGHT_COLOUR = (220, 40, 40), (40, 40, 220)
"""The colours of the left and the right half of the picture: the right one has the left eye."""


def block_face(key: str = "a") -> Sample:
    """A face whose parts are rectangles about the places that an average face has them at."""
    labels = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    centres = []
    for part, classes in zip(PAPER9.parts, PAPER9.part_classes, strict=True):
        x, y = round(part.centre[0] * WIDTH), round(part.centre[1] * HEIGHT)
        height = 2 * len(classes)
        for row, class_id in enumerate(classes):
            top = y - height // 2 + 2 * row
            labels[top : top + 2, x - 5 : x + 5] = class_id
        centres.append((float(x), float(y)))
    image = torch.tensor(LEFT_COLOUR, dtype=torch.uint8)[:, None, None].repeat(1, HEIGHT, WIDTH)
    image[:, :, WIDTH // 2 :] = torch.tensor(RIGHT_COLOUR, dtype=torch.uint8)[:, None, None]
    return Sample(key, image, labels, torch.tensor(centres), torch.ones(6, dtype=torch.bool))


def block_faces(number: int) -> Batch:
    """A batch of such faces."""
    return collate([block_face(f"face{i}") for i in range(number)])


def block_mean_face() -> Tensor:
    """The mean face, `[P, 2]`, shares of a square that is as long as the longer side."""
    centres = block_face().centres
    size = torch.tensor([WIDTH, HEIGHT])
    return (centres - size / 2) / max(WIDTH, HEIGHT) + 0.5
