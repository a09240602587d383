"""What repeated trainings of one setting say of it: mean, deviation, and an interval for the mean.

For every table of ours that has repeats: a sweep's report, and the paper's rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Repeats:
    """Of some trainings that differ in their seed alone."""

    num: int
    mean: float
    deviation: float | None
    """Standard deviation of one training, from the sample; None of one alone."""
    interval: tuple[float, float] | None
    """Where the mean of many would lie, at 95 %, were they normally distributed (Student's t);
    None of one alone."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Repeats":
        """From the trainings' results.

        Raises:
            ValueError: for none, and for one that is not finite.
        """
        if not values or not all(map(math.isfinite, values)):
            raise ValueError(f"repeats must be one or more finite numbers, got {list(values)}")
        mean, num = fmean(values), len(values)
        if num == 1:
            return cls(1, mean, None, None)
        deviation = stdev(values)
        if deviation == 0:
            return cls(num, mean, deviation, (mean, mean))
        low, high = stats.t.interval(LEVEL, num - 1, loc=mean, scale=deviation / math.sqrt(num))
        return cls(num, mean, deviation, (float(low), float(high)))

    def __str__(self) -> str:
        """`0.901`, or `0.901 ± 0.004 (0.891 to 0.911, 3 runs)`."""
        if self.deviation is None or self.interval is None:
            return f"{self.mean:.3f}"
        low, high = self.interval
        return f"{self.mean:.3f} ± {self.deviation:.3f} ({low:.3f} to {high:.3f}, {self.num} runs)"
