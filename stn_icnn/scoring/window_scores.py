"""Scores windows: the share of the true part that each holds, and how far off its centre lies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.geometry import pixels_inside
from stn_icnn.labels import LabelSet
from stn_icnn.scoring.f1 import LEVEL, none_if_undefined, percentile_interval, resampled_sums

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
    def joined(cls, batches: Sequence[Self]) -> Self:
        """Joins the scores of several batches, in order."""
        share, error = zip(*((b.share_inside, b.error_px) for b in batches), strict=True)
        return cls(torch.cat(share), torch.cat(error))


def score_windows(windows: Tensor, batch: Batch, label_set: LabelSet) -> WindowScores:
    """Compares windows with the truth.

    Args:
        windows: `[N, P, 4]` float32: centre, width, height, px of the image.
        batch: N faces with truth, not augmented, on the CPU.
        label_set: the label set, which has P parts.
    """
    assert batch.labels is not None
    faces = zip(batch.labels, windows.tolist(), strict=True)
    share = torch.tensor([_shares_inside(*face, label_set) for face in faces])
    return WindowScores(share, centre_errors(windows, batch))


def centre_errors(windows: Tensor, batch: Batch) -> Tensor:
    """Measures how far the windows' centres lie from the true parts' centroids.

    Args:
        windows: `[N, P, 4]` float32: centre, width, height, px of the image.
        batch: N faces with the parts' centres, not augmented.

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


class Estimate(NamedTuple):
    """A mean and the ends of its percentile interval; None where it is undefined."""

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class WindowSummary:
    """Means of the measures over a group of parts, with percentile intervals over faces.

    The first three tensors have a value for each of `MEASURES` and `rows`, `[3, 1 + P]` float64;
    NaN where the group has no such part.
    """

    mean: Tensor
    low: Tensor
    high: Tensor
    num: Tensor
    """`[1 + P]` int64: the number of parts that the means are taken over."""
    rows: tuple[str, ...]
    """`ALL_PARTS`, then the name of each part."""

    def estimate(self, measure: str, row: str = ALL_PARTS) -> Estimate:
        """Returns the mean of one of `MEASURES` over the parts of one of `rows`."""
        at = MEASURES.index(measure), self.rows.index(row)
        ends = (none_if_undefined(float(tensor[at])) for tensor in (self.mean, self.low, self.high))
        return Estimate(*ends)

    def num_parts(self, row: str = ALL_PARTS) -> int:
        """Returns the number of parts that the means of one of `rows` are taken over."""
        return int(self.num[self.rows.index(row)])


def summarise_windows(
    scores: WindowScores, group: Tensor, label_set: LabelSet, seed: int = 0, level: float = LEVEL
) -> WindowSummary:
    """Computes the means of the measures over the parts of a group.

    Faces are resampled, not parts, since the parts of one face depend on each other.

    Args:
        scores: the scores of M faces.
        group: `[M, P]` bool: the parts that belong to the group; absent parts must not.
        label_set: the label set, which has P parts.
        seed: seed of the draw.
        level: the interval's coverage, in (0, 1).
    """
    found = (scores.share_inside >= FOUND).float()
    values = torch.stack([scores.share_inside, found, scores.error_px], dim=1).double()
    values = torch.where(group[:, None], values, 0.0)
    of_parts = torch.cat([values, group[:, None].double()], dim=1)
    of_rows = torch.cat([of_parts.sum(dim=-1, keepdim=True), of_parts], dim=-1)
    sums = of_rows.sum(dim=0)
    drawn = resampled_sums(of_rows.flatten(1), seed).view(-1, *of_rows.shape[1:])
    low, high = percentile_interval(drawn[:, :-1] / drawn[:, -1:], level)
    names = (ALL_PARTS, *(part.name for part in label_set.parts))
    return WindowSummary(sums[:-1] / sums[-1:], low, high, sums[-1].long(), names)
