"""The picture of Figure 5: covered faces, their coarse labels, and each cropper's patches."""

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
"""Side of a patch in the picture, px."""
LAYOUT: Final = (("right_brow", "left_brow"), ("right_eye", "left_eye"), ("nose", "mouth"))
"""The patches of a face, laid out as in the photograph: the subject's right on the left."""
COVERED_COLOUR: Final = (220, 40, 50)
"""RGB colour of the frame around a covered part's patch."""


@dataclass(frozen=True)
class CoveredFace:
    """A face of which parts were covered."""

    image: Tensor
    """`[3, H, W]` uint8, before parts were covered."""
    covered_image: Tensor
    """`[3, H, W]` uint8."""
    coarse_labels: Tensor
    """`[H, W]` uint8: the coarse network's labels of the covered image."""
    covered: Sequence[bool]
    """Whether each part is covered."""
    windows: Mapping[str, Tensor]
    """The windows by cropper, `[P, 4]` float32: centre, width, height, px."""
    label_set: LabelSet
    """The classes and the P parts."""


def examples_picture(examples: Sequence[CoveredFace], croppers: Sequence[str]) -> Uint8Array:
    """Draws each face in a column, as the figure does.

    Patches are cut out of the image before parts were covered, to show whether a covered part lies
    in its window. The patches of covered parts are framed in red.

    Args:
        examples: the faces.
        croppers: names of the croppers whose patches are shown, a row each.

    Returns:
        uint8 `[H, W, 3]`, RGB.
    """
    width = 2 * TILE_PX
    rows = [
        ("covered", [fitted(pixels_of(e.covered_image), width) for e in examples]),
        ("rough labels", [fitted(_coarse_overlay(e), width) for e in examples]),
        *((name, [_patches(e, e.windows[name]) for e in examples]) for name in croppers),
    ]
    return picture_grid(rows)


def _coarse_overlay(example: CoveredFace) -> Uint8Array:
    photo, labels = pixels_of(example.covered_image), example.coarse_labels.numpy()
    return overlay(photo, labels, example.label_set, alpha=0.7)


def _patches(example: CoveredFace, windows: Tensor) -> Uint8Array:
    """Lays out the six patches of a face, uint8 `[3 * TILE_PX, 2 * TILE_PX, 3]`."""
    height, width = example.image.shape[1:]
    theta = theta_from_windows(windows[None], windows.new_tensor([width, height]))
    patches = crop(example.image[None].float(), theta, TILE_PX)[0].round().to(torch.uint8)
    tiles = {}
    parts = example.label_set.parts
    for part, patch, covered in zip(parts, patches, example.covered, strict=True):
        tile = pixels_of(patch)
        tiles[part.name] = framed(tile, COVERED_COLOUR) if covered else tile
    return np.concatenate([np.concatenate([tiles[name] for name in row], axis=1) for row in LAYOUT])
