"""The statistics of trainings that differ in their seed alone: mean, deviation, interval.

A sweep's report and the paper's table both use them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class SeedStatistics:
    """Statistics of a result over the seeds that it was measured with."""

    num: int
    """Number of trainings."""
    mean: float
    """Mean of their results."""
    deviation: float | None
    """Sample standard deviation of a single training; None where there is one training only."""
    interval: tuple[float, float] | None
    """95 % confidence interval of the mean, by Student's t; None where there is one training
    only."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "SeedStatistics":
        """Summarises the trainings' results.

        Raises:
            ValueError: there is no result, or one that is not finite.
        """
        if not values or not all(map(math.isfinite, values)):
            raise ValueError(f"results must be one or more finite numbers, got {list(values)}")
        mean, num = fmean(values), len(values)
        if num == 1:
            return cls(1, mean, None, None)
        deviation = stdev(values)
        if deviation == 0:
            return cls(num, mean, deviation, (mean, mean))
        low, high = stats.t.interval(LEVEL, num - 1, loc=mean, scale=deviation / math.sqrt(num))
        return cls(num, mean, deviation, (float(low), float(high)))

    def __str__(self) -> str:
        """Returns `0.901`, or `0.901 ± 0.004 (0.891 to 0.911, 3 runs)`."""
        if self.deviation is None or self.interval is None:
            return f"{self.mean:.3f}"
        low, high = self.interval
        return f"{self.mean:.3f} ± {self.deviation:.3f} ({low:.3f} to {high:.3f}, {self.num} runs)"
