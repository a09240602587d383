"""Covers some parts of faces (paper section 3.2 and Figure 5).

The paper covers parts "with their background information". Here a covered part, with a margin for
its shadows and lashes, is filled smoothly from what lies around it: skin mostly, hair where a
fringe hangs over a brow. Other parts give no colour to it and keep their own pixels.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.labels import LabelSet

MARGIN = 0.02
"""Width of the margin that is covered around a part, as a share of the image's longer side."""
AROUND = 4
"""Distance from the parts up to which colours are taken, in multiples of `MARGIN`."""


def choose_parts(key: str, present: Sequence[bool], num_covered: int, seed: int) -> list[int]:
    """Chooses the parts of a face that are covered, by seed and key alone.

    The parts that are chosen for a smaller number are among those for a larger one.

    Args:
        key: the sample's key.
        present: whether the face has each part.
        num_covered: number of parts; all of the face's where it has fewer.
        seed: seed of the draw.

    Returns:
        Indices of parts, in order.
    """
    candidates = [part for part, is_present in enumerate(present) if is_present]
    generator = np.random.default_rng([seed, zlib.crc32(key.encode())])
    return sorted(generator.permutation(candidates).tolist()[:num_covered])


def cover_batch(
    batch: Batch, num_covered: int, seed: int, label_set: LabelSet
) -> tuple[Batch, Tensor]:
    """Covers parts of each face of a batch.

    Args:
        batch: N faces with truth, not augmented, on the CPU.
        num_covered: number of parts that are covered in each face.
        seed: seed of the draw, as `choose_parts` takes it.
        label_set: the batch's classes and its P parts.

    Returns:
        The batch with other images, and which parts are covered, `[N, P]` bool.
    """
    assert batch.labels is not None
    assert batch.present is not None
    assert batch.augmentation is None
    images, present = batch.images.clone(), batch.present.tolist()
    covered = torch.zeros_like(batch.present)
    for i, (key, (width, height)) in enumerate(zip(batch.keys, batch.host_sizes, strict=True)):
        parts = choose_parts(key, present[i], num_covered, seed)
        covered[i, parts] = True
        inside = np.s_[..., :height, :width]
        images[i][inside] = cover(images[i][inside], batch.labels[i][inside], parts, label_set)
    return replace(batch, images=images), covered


def cover(image: Tensor, labels: Tensor, parts: Sequence[int], label_set: LabelSet) -> Tensor:
    """Covers parts of a photograph.

    Args:
        image: `[3, H, W]` uint8, RGB.
        labels: `[H, W]` uint8, its true labels, class ids.
        parts: indices of the parts to cover.
        label_set: the classes and the parts.

    Returns:
        `[3, H, W]` uint8; pixels of other parts, and those farther off than the margin, stay as
        they are.
    """
    classes = [class_id for part in parts for class_id in label_set.part_classes[part]]
    inner = _mask_of(labels, label_set.inner_classes, label_set.num_classes)
    chosen = _mask_of(labels, classes, label_set.num_classes)
    if not bool(chosen.any()):
        return image
    margin_px = round(MARGIN * max(labels.shape))
    box = _bounding_box(inner, AROUND * margin_px)  # the rest of a photograph is left alone
    inner, chosen = inner[box], chosen[box]
    other = inner & ~chosen
    hole = _dilated(chosen, margin_px) & ~other
    before = image[:, *box]
    filled = _filled(before.float(), ~hole & ~other).round().to(torch.uint8)
    covered = image.clone()
    covered[:, *box] = torch.where(hole, filled, before)
    return covered


def _mask_of(labels: Tensor, classes: Sequence[int], num_classes: int) -> Tensor:
    """Marks the pixels whose labels are of some classes, `[H, W]` bool."""
    table = torch.zeros(num_classes, dtype=torch.bool)
    table[list(classes)] = True
    return table[labels.int()]  # a third of the time of torch.isin


def _bounding_box(mask: Tensor, margin_px: int) -> tuple[slice, slice]:
    """Returns the rows and columns of a mask, `[H, W]` bool and not empty, with a margin."""
    rows, columns = (
        slice(max(0, int(marked[0]) - margin_px), int(marked[-1]) + 1 + margin_px)
        for marked in (mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero())
    )
    return rows, columns


def _dilated(mask: Tensor, radius_px: int) -> Tensor:
    """Dilates a mask, `[H, W]` bool, by a square that reaches so many pixels to each side."""
    out, side = mask[None, None].float(), 2 * radius_px + 1
    out = F.max_pool2d(out, (side, 1), stride=1, padding=(radius_px, 0))
    out = F.max_pool2d(out, (1, side), stride=1, padding=(0, radius_px))
    return out[0, 0] > 0


def _filled(image: Tensor, known: Tensor) -> Tensor:
    """Fills the pixels that are not known with colours of those that are.

    The image is halved again and again, and a pixel takes its colour from the finest copy that has
    a known one there. So near pixels count most, and the farther off they are, the wider the mean.

    Args:
        image: `[3, H, W]` float32.
        known: `[H, W]` bool.

    Returns:
        `[3, H, W]` float32, in which known pixels are as they were.
    """
    if bool(known.all()) or known.numel() == 1:
        return image
    weight = known[None].float()
    sums = F.avg_pool2d(torch.cat([image * weight, weight])[None], 2, ceil_mode=True)[0]
    smaller = sums[:-1] / sums[-1:].clamp(min=1e-6)
    coarser = _filled(smaller, sums[-1] > 0)
    enlarged = F.interpolate(coarser[None], size=known.shape, mode="bilinear")[0]
    return torch.where(known, image, enlarged)
