"""How much better one system is than another on the same images: paired, with its interval."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from stn_icnn.scoring.f1 import bootstrap_f1, f1_tensors, percentile_interval
from stn_icnn.scoring.seed_statistics import Repeats


@dataclass(frozen=True)
class Difference:
    """Between two systems, in `overall`, on the same images and with the same seeds."""

    better: str
    """The one that is expected to be."""
    worse: str
    of_seeds: Repeats
    """Of the seeds' differences."""
    interval: tuple[float, float]
    """95 % bootstrap interval, over images, of their mean."""
    images_better: float | None
    """Share of the images, over all seeds, whose own F1 is higher; of those that differ. None where
    none differs."""

    @classmethod
    def between(cls, better: str, worse: str, counts: Mapping[str, Tensor]) -> "Difference":
        """Compares two systems.

        Args:
            better: the name of one.
            worse: of the other.
            counts: by name, confusion counts, int64 `[M, 11, 11]`, or `[S, M, 11, 11]` of S seeds.
        """
        ours, theirs = (
            counts[name].reshape(-1, *counts[name].shape[-3:]) for name in (better, worse)
        )
        of_seeds = f1_tensors(ours.sum(dim=1))["overall"] - f1_tensors(theirs.sum(dim=1))["overall"]
        drawn = (bootstrap_f1(ours) - bootstrap_f1(theirs)).mean(dim=0)
        own = f1_tensors(ours)["overall"] - f1_tensors(theirs)["overall"]
        differing = own[~own.isnan() & (own != 0)]
        share = float((differing > 0).double().mean()) if differing.numel() else None
        return cls(better, worse, Repeats.of(of_seeds.tolist()), middle(drawn), share)

    @property
    def numbers(self) -> list[float]:
        """The mean over seeds and the ends of the interval, as a job's last line has them."""
        return [self.of_seeds.mean, *self.interval]

    def __str__(self) -> str:
        """`+0.0012 (-0.0002 to +0.0027)`: the mean over seeds, and the interval."""
        low, high = self.interval
        return f"{self.of_seeds.mean:+.4f} ({low:+.4f} to {high:+.4f})"


def middle(drawn: Tensor) -> tuple[float, float]:
    """What the middle 95 % of resampled numbers lie between, float64 `[R]`."""
    low, high = percentile_interval(drawn)
    return float(low), float(high)
