"""What is tried next: grid, random, and TPE as functions of what has been tried."""

import math
from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from cluster.sweep.config import SweepConfig
from cluster.sweep.proposals import count_combinations, propose, require_grid
from cluster.sweep.spaces import Values, all_values, contains, parse_space
from cluster.sweep.sweep_record import State, Trial, trial_name
from stn_icnn.config import TrainConfig

RATE = {"optim.lr_fine": FloatDistribution(1e-4, 1.0, log=True)}
SIZE = {"model.patch_px.eye": IntDistribution(33, 65, step=16)}
SCHEDULE = {"optim.schedule": CategoricalDistribution(("halving", "one_cycle"))}
TPE = SweepConfig(random_trials=4)


def tried(number: int, values: Values, score: float | None, state: State = "finished") -> Trial:
    curve = {} if score is None else {1: score / 2, 2: score}
    return Trial(trial_name(number, 0), number, 0, 0, values, state, curve)


def test_a_grid_has_every_combination_once() -> None:
    grid = SweepConfig(search="grid")
    require_grid(SIZE | SCHEDULE, 6)
    found = [propose(grid, SIZE | SCHEDULE, TrainConfig(), i, []) for i in range(6)]
    assert [tuple(values.values()) for values in found] == [
        (size, schedule) for size in (33, 49, 65) for schedule in ("halving", "one_cycle")
    ]


def test_a_grid_over_the_budget_or_a_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 x 2 = 6 combinations, over num_trials = 5"):
        require_grid(SIZE | SCHEDULE, 5)
    with pytest.raises(ValueError, match=r"space\.optim\.lr_fine must be values or steps"):
        require_grid(RATE, 5)


def test_a_range_of_whole_numbers_may_be_a_grid() -> None:
    batch = {"optim.global_batch": IntDistribution(8, 10)}
    require_grid(batch | SIZE, 9)
    grid = SweepConfig(search="grid")
    found = [propose(grid, batch | SIZE, TrainConfig(), i, []) for i in range(9)]
    assert [tuple(values.values()) for values in found] == [
        (images, size) for images in (8, 9, 10) for size in (33, 49, 65)
    ]


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_the_presets_own_values_come_first_where_they_lie_in_the_spaces(search) -> None:
    sweep = SweepConfig(search=search)
    assert propose(sweep, RATE, TrainConfig(), 0, []) == {"optim.lr_fine": 0.01}
    other = propose(sweep, SIZE, TrainConfig(), 0, [])  # 81 is none of them
    assert other["model.patch_px.eye"] in (33, 49, 65)


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_what_has_been_tried_is_not_tried_again(search) -> None:
    """Nine settings, each once: a training of one again would be the same to the last bit."""
    batch = {"optim.global_batch": IntDistribution(8, 10)}
    sweep, trials = SweepConfig(search=search, random_trials=2), list[Trial]()
    assert count_combinations(SIZE | batch) == 9
    for number in range(9):
        values = propose(sweep, SIZE | batch, TrainConfig(), number, trials)
        assert values not in [trial.values for trial in trials]
        state: State = "failed" if number == 4 else "finished"
        trials.append(tried(number, values, 0.5, state))
    assert math.isinf(count_combinations(SIZE | RATE))


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_a_proposal_depends_on_nothing_but_its_number_and_the_trials(search) -> None:
    """So a driver that goes on proposes what the one before would have."""
    sweep = SweepConfig(search=search, random_trials=2)
    trials = [
        tried(i, {"optim.lr_fine": 10.0**-i, "model.patch_px.eye": 49}, i / 10) for i in (1, 2, 3)
    ]
    again = [propose(sweep, RATE | SIZE, TrainConfig(), 4, trials) for _ in range(2)]
    assert again[0] == again[1]
    others = {propose(sweep, RATE, TrainConfig(), i, [])["optim.lr_fine"] for i in range(1, 9)}
    assert len(others) == 8
    assert all(contains(RATE["optim.lr_fine"], value) for value in others)


def bowl(values: Values) -> float:
    """Best at a rate of 0.03."""
    return -(math.log10(values["optim.lr_fine"] / 0.03) ** 2)


def test_tpe_looks_where_it_was_good() -> None:
    """Late proposals lie nearer the bottom of a bowl than random ones, which are 1.06 off."""
    off = []
    for search_seed in range(4):
        sweep, trials = replace(TPE, search_seed=search_seed), list[Trial]()
        for number in range(25):
            values = propose(sweep, RATE | SIZE | SCHEDULE, TrainConfig(), number, trials)
            trials.append(tried(number, values, bowl(values)))
        off += [abs(math.log10(t.values["optim.lr_fine"] / 0.03)) for t in trials[12:]]
    assert sum(off) / len(off) < 0.8


def test_tpe_takes_trials_in_every_state() -> None:
    states: list[State] = ["finished", "pruned", "diverged", "failed", "running"]
    trials = [
        tried(i, {"optim.lr_fine": 0.1}, None if state in ("diverged", "failed") else 0.5, state)
        for i, state in enumerate(states * 2)
    ]
    trials.append(replace(trials[0], name="trial-0000-seed-1", repeat=1))
    value = propose(TPE, RATE, TrainConfig(), 11, trials)["optim.lr_fine"]
    assert contains(RATE["optim.lr_fine"], value)


def test_tpe_keeps_away_from_rates_that_diverge() -> None:
    trials: list[Trial] = []
    for number in range(30):
        values = propose(TPE, RATE, TrainConfig(), number, trials)
        diverges = values["optim.lr_fine"] > 0.1
        state: State = "diverged" if diverges else "finished"
        trials.append(tried(number, values, None if diverges else bowl(values), state))
    assert sum(trial.state == "diverged" for trial in trials[10:]) <= 4


@pytest.mark.parametrize(
    ("words", "current"),
    [
        ("log 1e-4 1e-1", 0.1),
        ("uniform 2 5", 0.1),
        ("steps 0 0.3 0.1", 0.1),
        ("steps 3 9 2", 8),
        ("log 4 64", 8),
        ("7 5 9", 8),
    ],
)
def test_random_values_lie_in_the_space_and_cover_it(words: str, current: float) -> None:
    space = parse_space("a", tuple(words.split()), current)
    sweep = SweepConfig(search="random")
    drawn = [propose(sweep, {"a": space}, TrainConfig(), i, [])["a"] for i in range(1, 501)]
    assert all(contains(space, value) for value in drawn)
    assert type(drawn[0]) is type(current)
    if words.startswith(("log", "uniform")):
        low, high = space.low, space.high
        middle = (low * high) ** 0.5 if space.log else (low + high) / 2
        assert sum(value < middle for value in drawn) / 500 == pytest.approx(0.5, abs=0.08)
    else:
        assert set(drawn) == set(all_values(space))


def test_a_sampled_step_is_the_listed_value() -> None:
    """0.1 + 0.2 is not 0.3: it would be tried twice, and not be the setting that was asked for."""
    shift = {"augment.shift": FloatDistribution(0.0, 0.5, step=0.1)}
    for search in ("random", "optuna"):
        sweep, trials = SweepConfig(search=search, random_trials=2), list[Trial]()
        for number in range(6):
            values = propose(sweep, shift, TrainConfig(), number, trials)
            trials.append(tried(number, values, 0.5))
        found = sorted(trial.values["augment.shift"] for trial in trials)
        assert found == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
