"""Mean, deviation and interval of repeated trainings."""

import math
import random

import pytest

from stn_icnn.scoring.seed_statistics import SeedStatistics


def test_three_runs_by_hand() -> None:
    repeats = SeedStatistics.of([0.90, 0.91, 0.95])
    assert repeats.mean == pytest.approx(0.92)
    assert repeats.deviation == pytest.approx(math.sqrt((0.02**2 + 0.01**2 + 0.03**2) / 2))
    half = 4.3027 * repeats.deviation / math.sqrt(3)
    assert repeats.interval == pytest.approx((0.92 - half, 0.92 + half), abs=1e-5)
    assert str(repeats) == "0.920 ± 0.026 (0.854 to 0.986, 3 runs)"


def test_runs_that_are_all_alike_leave_no_doubt() -> None:
    assert SeedStatistics.of([0.9, 0.9]) == SeedStatistics(2, 0.9, 0.0, (0.9, 0.9))


def test_one_run_has_no_deviation() -> None:
    assert SeedStatistics.of([0.9]) == SeedStatistics(1, 0.9, None, None)
    assert str(SeedStatistics.of([0.9])) == "0.900"


@pytest.mark.parametrize("num", [2, 5, 31, 40])
def test_the_interval_holds_the_mean_nineteen_times_of_twenty(num: int) -> None:
    rng = random.Random(num)
    samples = [SeedStatistics.of([rng.gauss(0.9, 0.01) for _ in range(num)]) for _ in range(2000)]
    held = sum(r.interval[0] <= 0.9 <= r.interval[1] for r in samples) / len(samples)
    assert held == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("values", [[], [0.9, math.nan], [math.inf]])
def test_nothing_and_what_is_not_finite_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="one or more finite numbers"):
        SeedStatistics.of(values)
