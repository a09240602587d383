"""Paired differences between systems: by hand, with seeds, and where there is none."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from stn_icnn.label_sets import PAPER9
from stn_icnn.scoring.f1 import bootstrap_interval
from stn_icnn.scoring.paired_difference import PairedDifference

NOSE = PAPER9.class_id["nose"]


def counts_of(right: Sequence[int], missed: Sequence[int]) -> Tensor:
    """A face a number: so many pixels of a nose found, so many missed."""
    counts = torch.zeros(len(right), PAPER9.num_classes, PAPER9.num_classes, dtype=torch.int64)
    counts[:, NOSE, NOSE] = torch.tensor(right)
    counts[:, NOSE, 0] = torch.tensor(missed)
    return counts


def test_differences_are_paired() -> None:
    """Faces differ far more among themselves than the systems do on each: paired, it shows."""
    easy_and_hard = range(2, 82, 2)
    counts = {
        "worse": counts_of([100] * 40, easy_and_hard),
        "better": counts_of([101] * 40, [n - 1 for n in easy_and_hard]),
    }
    difference = PairedDifference.between("better", "worse", counts, PAPER9)
    low, high = difference.interval
    assert 0 < low < difference.over_seeds.mean < high
    assert difference.images_better == 1
    ours, theirs = (bootstrap_interval(counts[name], PAPER9) for name in ("better", "worse"))
    assert ours[0] < theirs[1], "unpaired, the intervals overlap"
    back = PairedDifference.between("worse", "better", counts, PAPER9)
    assert back.over_seeds.mean == pytest.approx(-difference.over_seeds.mean)
    assert back.images_better == 0
    assert str(back) == f"{-difference.over_seeds.mean:+.4f} ({-high:+.4f} to {-low:+.4f})"


def test_the_interval_is_of_the_mean_over_seeds() -> None:
    """What is won with one seed on a face is lost on it with the other: on any faces, nothing."""
    few, many = counts_of([10, 40], [90, 60]), counts_of([20, 70], [80, 30])
    counts = {"a": torch.stack([few, many]), "b": torch.stack([many, few])}
    difference = PairedDifference.between("a", "b", counts, PAPER9)
    assert difference.over_seeds.mean == pytest.approx(0)
    assert difference.over_seeds.deviation is not None
    assert difference.over_seeds.deviation > 0.1
    assert difference.interval == pytest.approx((0, 0))
    assert difference.images_better == 0.5


def test_where_no_image_differs_there_is_no_share_of_them() -> None:
    counts = dict.fromkeys(("a", "b"), counts_of([10, 40], [90, 60]))
    assert PairedDifference.between("a", "b", counts, PAPER9).images_better is None
