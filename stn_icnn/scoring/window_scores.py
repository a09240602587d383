"""How well windows are cut: what they hold of the true parts, and how far off they lie."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.geometry import pixels_inside
from stn_icnn.labels import NUM_CLASSES, PARTS
from stn_icnn.scoring.f1 import percentile_interval, resampled_sums

FOUND = 0.95
"""A part is found where its window holds at least this share of it."""

MEASURES = ("share_inside", "found", "error_px")
"""Share of a part's pixels in its window; whether that is `FOUND`; how far its centre is off."""

ALL_PARTS = "all"
ROWS = (ALL_PARTS, *(part.name for part in PARTS))


@dataclass(frozen=True)
class WindowScores:
    """Of the windows of N faces; NaN where a face lacks the part."""

    share_inside: Tensor
    """`[N, 6]` float32: the share of the true part's pixels whose centres lie in its window."""
    error_px: Tensor
    """`[N, 6]` float32: from the true part's centroid to the window's centre, px."""

    @classmethod
    def joined(cls, some: Sequence[Self]) -> Self:
        """Those of several batches, in order."""
        share, error = zip(*((one.share_inside, one.error_px) for one in some), strict=True)
        return cls(torch.cat(share), torch.cat(error))


def score_windows(windows: Tensor, batch: Batch) -> WindowScores:
    """Compares windows with the truth.

    Args:
        windows: `[N, 6, 4]` float32: centre, width, height, px of the image.
        batch: with truth, not augmented, on the CPU.
    """
    assert batch.labels is not None
    faces = zip(batch.labels, windows.tolist(), strict=True)
    share = torch.tensor([_shares_inside(labels, of_face) for labels, of_face in faces])
    return WindowScores(share, centre_errors(windows, batch))


def centre_errors(windows: Tensor, batch: Batch) -> Tensor:
    """From the true parts' centroids to the windows' centres.

    Args:
        windows: `[N, 6, 4]` float32: centre, width, height, px of the image.
        batch: with the parts' centres, not augmented.

    Returns:
        `[N, 6]` float32, px; NaN where a face lacks the part.
    """
    assert batch.centres is not None
    assert batch.present is not None
    errors: Tensor = (windows[..., :2] - batch.centres).norm(dim=-1)
    return errors.masked_fill(~batch.present, math.nan)


def _shares_inside(labels: Tensor, windows: Sequence[Sequence[float]]) -> list[float]:
    """Of each part of a face, `[H, W]` uint8."""
    height, width = labels.shape
    all_pixels = _pixels_of_classes(labels)
    shares = []
    for part, (x, y, w, h) in zip(PARTS, windows, strict=True):
        rows, columns = slice(*pixels_inside(y, h, height)), slice(*pixels_inside(x, w, width))
        classes = list(part.classes)
        inside = _pixels_of_classes(labels[rows, columns])[classes].sum()
        shares.append(float(inside / all_pixels[classes].sum()))  # 0 / 0 is NaN
    return shares


def _pixels_of_classes(labels: Tensor) -> Tensor:
    return torch.bincount(labels.flatten().int(), minlength=NUM_CLASSES)


@dataclass(frozen=True)
class Summary:
    """Means over the parts of some group, with percentile intervals over faces.

    Each has a value for each of `MEASURES` and `ROWS`, `[3, 7]` float64; NaN where the group has
    no such part.
    """

    mean: Tensor
    low: Tensor
    high: Tensor
    num: Tensor
    """`[7]` int64: parts that the means are of."""


def summarise(
    scores: WindowScores,
    group: Tensor,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Summary:
    """Means over the parts of a group.

    Faces are resampled, not parts: those of one face are not independent of each other.

    Args:
        scores: of M faces.
        group: `[M, 6]` bool; parts that are absent must not be in it.
        num_resamples: sets of faces drawn for the interval, of M each.
        seed: of the draw.
        level: the interval's coverage, in (0, 1).
    """
    found = (scores.share_inside >= FOUND).float()
    values = torch.stack([scores.share_inside, found, scores.error_px], dim=1).double()
    values = torch.where(group[:, None], values, 0.0)
    of_parts = torch.cat([values, group[:, None].double()], dim=1)
    rows = torch.cat([of_parts.sum(dim=-1, keepdim=True), of_parts], dim=-1)
    sums = rows.sum(dim=0)
    drawn = resampled_sums(rows.flatten(1), num_resamples, seed).view(-1, *rows.shape[1:])
    low, high = percentile_interval(drawn[:, :-1] / drawn[:, -1:], level)
    return Summary(sums[:-1] / sums[-1:], low, high, sums[-1].long())
