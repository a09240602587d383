"""Faces with some of their parts covered (paper section 3.2 and Figure 5).

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
"""Of what is covered around a part, as a share of the image's longer side."""
AROUND = 4
"""How far around the parts colours are taken from, in margins."""


def choose_parts(key: str, present: Sequence[bool], num_covered: int, seed: int) -> list[int]:
    """The parts of a face that are covered, drawn from seed and key alone.

    With more of them, those of fewer are among them.

    Args:
        key: the sample's.
        present: whether the face has each part.
        num_covered: how many; all that there are, if there are fewer.
        seed: of the draw.

    Returns:
        Indices of parts, in order.
    """
    there = [part for part, is_there in enumerate(present) if is_there]
    dice = np.random.default_rng([seed, zlib.crc32(key.encode())])
    return sorted(dice.permutation(there).tolist()[:num_covered])


def cover_batch(
    batch: Batch, num_covered: int, seed: int, label_set: LabelSet
) -> tuple[Batch, Tensor]:
    """Covers parts of each face of a batch.

    Args:
        batch: with truth, not augmented, on the CPU.
        num_covered: parts a face.
        seed: of the draw, see `choose_parts`.
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
        own = np.s_[..., :height, :width]
        images[i][own] = cover(images[i][own], batch.labels[i][own], parts, label_set)
    return replace(batch, images=images), covered


def cover(image: Tensor, labels: Tensor, parts: Sequence[int], label_set: LabelSet) -> Tensor:
    """Covers parts of a photograph.

    Args:
        image: `[3, H, W]` uint8.
        labels: `[H, W]` uint8, its true labels, class ids.
        parts: indices of the parts to cover.
        label_set: the classes and the parts.

    Returns:
        `[3, H, W]` uint8; pixels of other parts, and those farther off than the margin, are as
        they were.
    """
    classes = [class_id for part in parts for class_id in label_set.part_classes[part]]
    inner, chosen = (
        _among(labels, some, label_set.num_classes) for some in (label_set.inner_classes, classes)
    )
    if not bool(chosen.any()):
        return image
    reach_px = round(MARGIN * max(labels.shape))
    here = _box_around(inner, AROUND * reach_px)  # the rest of a photograph is left alone
    inner, chosen = inner[here], chosen[here]
    other = inner & ~chosen
    hole = _grown(chosen, reach_px) & ~other
    own = image[:, *here]
    filled = _filled(own.float(), ~hole & ~other).round().to(torch.uint8)
    covered = image.clone()
    covered[:, *here] = torch.where(hole, filled, own)
    return covered


def _among(labels: Tensor, classes: Sequence[int], num_classes: int) -> Tensor:
    """Where labels are of some classes, `[H, W]` bool."""
    table = torch.zeros(num_classes, dtype=torch.bool)
    table[list(classes)] = True
    return table[labels.int()]  # a third of the time of torch.isin


def _box_around(mask: Tensor, margin_px: int) -> tuple[slice, slice]:
    """The rows and columns that hold a mask, `[H, W]` bool with a pixel at least, and a margin."""
    spans = []
    for there in (mask.any(dim=1), mask.any(dim=0)):
        at = there.nonzero()
        spans.append(slice(max(0, int(at[0]) - margin_px), int(at[-1]) + 1 + margin_px))
    return spans[0], spans[1]


def _grown(mask: Tensor, reach_px: int) -> Tensor:
    """A mask, `[H, W]` bool, and all within a square of so many pixels around it."""
    out, side = mask[None, None].float(), 2 * reach_px + 1
    out = F.max_pool2d(out, (side, 1), stride=1, padding=(reach_px, 0))
    out = F.max_pool2d(out, (1, side), stride=1, padding=(0, reach_px))
    return out[0, 0] > 0


def _filled(image: Tensor, known: Tensor) -> Tensor:
    """Colours for the pixels that are not known, from those that are.

    Each takes them from the finest of ever smaller copies that knows any there: near ones count
    most, and the farther a pixel is from them, the wider the mean.

    Args:
        image: `[3, H, W]` float32.
        known: `[H, W]` bool.

    Returns:
        `[3, H, W]` float32; known pixels as they were.
    """
    if bool(known.all()) or known.numel() == 1:
        return image
    weight = known[None].float()
    sums = F.avg_pool2d(torch.cat([image * weight, weight])[None], 2, ceil_mode=True)[0]
    smaller = sums[:-1] / sums[-1:].clamp(min=1e-6)
    coarser = _filled(smaller, sums[-1] > 0)
    enlarged = F.interpolate(coarser[None], size=known.shape, mode="bilinear")[0]
    return torch.where(known, image, enlarged)
