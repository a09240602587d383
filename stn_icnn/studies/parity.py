"""Compares the grid transformer with integer slicing (paper section 3.3, Figures 7 and 8).

A patch of odd size centred on a pixel covers whole pixels, and both cut the same. One of even size
centred on a pixel begins and ends in the middle of pixels: the sampler takes means of 2 x 2
neighbours, slicing has to move by half a pixel, and they differ by as much as the picture does over
half a pixel. It is the position of the edges that counts, not evenness: around a corner between
pixels it is the even patch that is exact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stn_icnn.geometry import crop, theta_from_windows


@dataclass(frozen=True)
class PatchDifference:
    """The difference of sampled patches from sliced ones, in 8-bit levels, 0 to 255."""

    largest: int
    """The largest difference of a value, after rounding, levels."""
    share: float
    """The share of the values that differ after rounding, in [0, 1]."""
    largest_unrounded: float
    """The largest difference of a value before rounding, levels."""
    mean_unrounded: float
    """The mean difference over all values before rounding, levels."""


def on_pixel(point: Tensor) -> Tensor:
    """Returns the centre of the pixel that each point lies in: `[..., 2]` px."""
    return point.floor() + 0.5


def on_corner(point: Tensor) -> Tensor:
    """Returns the corner between pixels that is nearest to each point: `[..., 2]` px."""
    return point.round()


def slice_patch(image: Tensor, centre: Sequence[float], px: int) -> Tensor:
    """Cuts a patch of whole pixels, as the baseline's cropper does.

    Convention: (x, y) in px of the image, the centre of the top left pixel at (0.5, 0.5). The patch
    is 0 outside the image; where it would begin inside a pixel, it begins at the pixel's left and
    upper edge instead.

    Args:
        image: `[C, H, W]`, of any dtype.
        centre: (x, y) within the image, px.
        px: side of the patch.

    Returns:
        `[C, px, px]`, of the image's dtype.
    """
    height, width = image.shape[1:]
    left, top = (math.floor(at - px / 2) for at in centre)
    rows = slice(max(0, top), min(height, top + px))
    columns = slice(max(0, left), min(width, left + px))
    patch = image.new_zeros(image.shape[0], px, px)
    inside = patch[
        :, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    inside[:] = image[:, rows, columns]
    return patch


def sample_patches(image: Tensor, centres: Tensor, px: int) -> Tensor:
    """Cuts patches as the model does, by theta and bilinear sampling (equations 3 and 14).

    Convention: as in `slice_patch`, but patches may begin anywhere.

    Args:
        image: `[C, H, W]`, of any dtype.
        centres: `[P, 2]` float32, px.
        px: side of the windows and of the patches.

    Returns:
        `[P, C, px, px]` float32.
    """
    windows = torch.cat([centres, torch.full_like(centres, px)], dim=-1)[None]
    size = centres.new_tensor([image.shape[2], image.shape[1]])
    return crop(image[None].float(), theta_from_windows(windows, size), px)[0]


def cut_both_ways(image: Tensor, centres: Tensor, px: int) -> tuple[Tensor, Tensor]:
    """Cuts the same patches both ways, sliced and sampled.

    Args:
        image: `[C, H, W]` uint8.
        centres: `[P, 2]` float32, px.
        px: side of the patches.

    Returns:
        `[P, C, px, px]` uint8 and float32.
    """
    sliced = torch.stack([slice_patch(image, centre, px) for centre in centres.tolist()])
    return sliced, sample_patches(image, centres, px)


def compare_patches(sliced: Tensor, sampled: Tensor) -> PatchDifference:
    """Compares patches, `[...]` uint8 and float32, as `cut_both_ways` returns them."""
    unrounded = (sampled - sliced).abs()
    rounded = (sampled.round() - sliced).abs()
    return PatchDifference(
        largest=int(rounded.max()),
        share=float((rounded > 0).double().mean()),
        largest_unrounded=float(unrounded.max()),
        mean_unrounded=float(unrounded.double().mean()),
    )


def source_positions(px: int) -> tuple[list[float], list[float]]:
    """Finds where the pixels of a patch centred on a pixel come from, along an axis (Figure 7).

    Both ways cut an image whose values are the positions of its pixels.

    Args:
        px: side of the patch.

    Returns:
        `px` positions each, sliced and sampled, px from the window's centre.
    """
    side = 2 * px + 1
    centre = px + 0.5
    ruler = (torch.arange(side) + 0.5).expand(1, side, side)
    sliced = slice_patch(ruler, (centre, centre), px)
    sampled = sample_patches(ruler, torch.full((1, 2), centre), px)
    return (sliced[0, 0] - centre).tolist(), (sampled[0, 0, 0] - centre).tolist()
