"""How well windows are cut: what they hold of the true parts, and how far off they lie."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.geometry import pixels_inside
from stn_icnn.labels import LabelSet
from stn_icnn.scoring.f1 import percentile_interval, resampled_sums

FOUND = 0.95
"""A part is found where its window holds at least this share of it."""

MEASURES = ("share_inside", "found", "error_px")
"""The share of a part's pixels in its window, whether that is `FOUND`, and how far the window's
centre is off."""

ALL_PARTS = "all"
"""The first row of a summary; the parts follow."""


@dataclass(frozen=True)
class WindowScores:
    """The scores of the windows of N faces with P parts; NaN where a face lacks the part."""

    share_inside: Tensor
    """`[N, P]` float32: the share of the true part's pixels whose centres lie in its window."""
    error_px: Tensor
    """`[N, P]` float32: the distance of the window's centre from the true part's centroid, px."""

    @classmethod
    def joined(cls, some: Sequence[Self]) -> Self:
        """Joins the scores of several batches, in order."""
        share, error = zip(*((one.share_inside, one.error_px) for one in some), strict=True)
        return cls(torch.cat(share), torch.cat(error))


def score_windows(windows: Tensor, batch: Batch, label_set: LabelSet) -> WindowScores:
    """Compares windows with the truth.

    Args:
        windows: `[N, P, 4]` float32: centre, width, height, px of the image.
        batch: with truth, not augmented, on the CPU.
        label_set: the P parts.
    """
    assert batch.labels is not None
    faces = zip(batch.labels, windows.tolist(), strict=True)
    share = torch.tensor([_shares_inside(*face, label_set) for face in faces])
    return WindowScores(share, centre_errors(windows, batch))


def centre_errors(windows: Tensor, batch: Batch) -> Tensor:
    """Measures how far the windows' centres lie from the true parts' centroids.

    Args:
        windows: `[N, P, 4]` float32: centre, width, height, px of the image.
        batch: with the parts' centres, not augmented.

    Returns:
        `[N, P]` float32, px; NaN where a face lacks the part.
    """
    assert batch.centres is not None
    assert batch.present is not None
    errors: Tensor = (windows[..., :2] - batch.centres).norm(dim=-1)
    return errors.masked_fill(~batch.present, math.nan)


def _shares_inside(
    labels: Tensor, windows: Sequence[Sequence[float]], label_set: LabelSet
) -> list[float]:
    """Computes the share of each part's pixels in its window, for a face, `[H, W]` uint8."""
    height, width = labels.shape
    all_pixels = _pixels_of_classes(labels, label_set.num_classes)
    shares = []
    for ids, (x, y, w, h) in zip(label_set.part_classes, windows, strict=True):
        rows, columns = slice(*pixels_inside(y, h, height)), slice(*pixels_inside(x, w, width))
        classes = list(ids)
        pixels = _pixels_of_classes(labels[rows, columns], label_set.num_classes)
        shares.append(float(pixels[classes].sum() / all_pixels[classes].sum()))  # 0 / 0 is NaN
    return shares


def _pixels_of_classes(labels: Tensor, num_classes: int) -> Tensor:
    return torch.bincount(labels.flatten().int(), minlength=num_classes)


@dataclass(frozen=True)
class Summary:
    """Means over the parts of some group, with percentile intervals over faces.

    Each of them has a value for each of `MEASURES` and `rows`, `[3, 1 + P]` float64; NaN where the
    group has no such part.
    """

    mean: Tensor
    low: Tensor
    high: Tensor
    num: Tensor
    """`[1 + P]` int64: the number of parts that the means are taken over."""
    rows: tuple[str, ...]
    """`ALL_PARTS`, then the name of each part."""


def summarise(
    scores: WindowScores,
    group: Tensor,
    label_set: LabelSet,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Summary:
    """Computes the means over the parts of a group.

    Faces are resampled, not parts: those of one face are not independent of each other.

    Args:
        scores: of M faces.
        group: `[M, P]` bool; parts that are absent must not be in it.
        label_set: the P parts.
        num_resamples: sets of faces drawn for the interval, of M each.
        seed: of the draw.
        level: the interval's coverage, in (0, 1).
    """
    found = (scores.share_inside >= FOUND).float()
    values = torch.stack([scores.share_inside, found, scores.error_px], dim=1).double()
    values = torch.where(group[:, None], values, 0.0)
    of_parts = torch.cat([values, group[:, None].double()], dim=1)
    of_rows = torch.cat([of_parts.sum(dim=-1, keepdim=True), of_parts], dim=-1)
    sums = of_rows.sum(dim=0)
    drawn = resampled_sums(of_rows.flatten(1), num_resamples, seed).view(-1, *of_rows.shape[1:])
    low, high = percentile_interval(drawn[:, :-1] / drawn[:, -1:], level)
    names = (ALL_PARTS, *(part.name for part in label_set.parts))
    return Summary(sums[:-1] / sums[-1:], low, high, sums[-1].long(), names)
