"""The picture of Figure 5: covered faces, their rough labels, and how each cropper cuts them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from stn_icnn.geometry import crop, theta_from_windows
from stn_icnn.labels import LabelSet
from stn_icnn.reporting.overlay import Uint8Array, overlay
from stn_icnn.reporting.picture_grid import fitted, framed, picture_grid, pixels_of

TILE_PX: Final = 75
"""Side of a patch as it is shown."""
LAID_OUT: Final = (("right_brow", "left_brow"), ("right_eye", "left_eye"), ("nose", "mouth"))
"""The patches of a face, as they lie in the photograph: the subject's right on the left."""
COVERED: Final = (220, 40, 50)
"""Colour of the frame around a covered part's patch."""


@dataclass(frozen=True)
class CoveredFace:
    """A face of which parts were covered."""

    photo: Tensor
    """`[3, H, W]` uint8, before."""
    covered_photo: Tensor
    """`[3, H, W]` uint8."""
    rough: Tensor
    """`[H, W]` uint8: the coarse network's labels of the latter."""
    covered: Sequence[bool]
    """Whether each part is covered."""
    windows: Mapping[str, Tensor]
    """By cropper, `[P, 4]` float32 px."""
    label_set: LabelSet
    """The classes and the P parts."""


def examples_picture(examples: Sequence[CoveredFace], croppers: Sequence[str]) -> Uint8Array:
    """A column a face, as in the figure.

    Patches are cut out of the photograph as it was before: so one sees whether the part that was
    covered lies in its window. Those are framed in red.
    """
    width = 2 * TILE_PX
    rows = [
        ("covered", [fitted(pixels_of(e.covered_photo), width) for e in examples]),
        ("rough labels", [fitted(_rough(e), width) for e in examples]),
        *((name, [_patches(e, e.windows[name]) for e in examples]) for name in croppers),
    ]
    return picture_grid(rows)


def _rough(example: CoveredFace) -> Uint8Array:
    photo, rough = pixels_of(example.covered_photo), example.rough.numpy()
    return overlay(photo, rough, example.label_set, alpha=0.7)


def _patches(example: CoveredFace, windows: Tensor) -> Uint8Array:
    """The six patches of a face, `[3 * TILE_PX, 2 * TILE_PX, 3]`."""
    height, width = example.photo.shape[1:]
    theta = theta_from_windows(windows[None], windows.new_tensor([width, height]))
    patches = crop(example.photo[None].float(), theta, TILE_PX)[0].round().to(torch.uint8)
    tiles = {}
    parts = example.label_set.parts
    for part, patch, covered in zip(parts, patches, example.covered, strict=True):
        tile = pixels_of(patch)
        tiles[part.name] = framed(tile, COVERED) if covered else tile
    lines = [np.concatenate([tiles[name] for name in line], axis=1) for line in LAID_OUT]
    return np.concatenate(lines)
