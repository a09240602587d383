"""Proposes the values that a sweep tries next.

Proposals are a function of what has been tried, so that nothing of a search has to outlive a
killed driver.
"""

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from cluster.sweep.config import SweepConfig
from cluster.sweep.searched_settings import current_value
from cluster.sweep.spaces import (
    Distribution,
    SearchSpace,
    Value,
    Values,
    all_values,
    contains,
    format_space,
)
from cluster.sweep.sweep_record import Trial
from stn_icnn.checks import require
from stn_icnn.config import TrainConfig

MAX_DRAWS = 10
"""Times that a sampler is asked for values that have not been tried."""


def propose(
    sweep: SweepConfig,
    space: SearchSpace,
    config: TrainConfig,
    number: int,
    tried: Sequence[Trial],
) -> Values:
    """Proposes the values of the searched settings.

    Args:
        sweep: how to search.
        space: what to search.
        config: the settings whose own values are the first to be tried, where the space holds them.
        number: how many proposals came before, from 0.
        tried: the trials so far, also those that are running.

    Returns:
        Values that have not been tried: a training of them would be the same to the last bit.
    """
    if sweep.search == "grid":
        return next(itertools.islice(all_combinations(space), number, None))
    if number == 0:
        current = {name: current_value(config, name) for name in space}
        if all(contains(space[name], value) for name, value in current.items()):
            return current
    known = [trial.values for trial in tried]
    for attempt in range(MAX_DRAWS):
        values = _draw(sweep, space, (sweep.search_seed, number, attempt), tried)
        if values not in known:
            return values
    return next((other for other in all_combinations(space) if other not in known), values)


def _draw(
    sweep: SweepConfig, space: SearchSpace, seed: Sequence[int], tried: Sequence[Trial]
) -> Values:
    """Draws values with an Optuna sampler that knows nothing but what it is given here."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = _make_sampler(sweep, int(np.random.SeedSequence(seed).generate_state(1)[0]))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in tried:
        if trial.repeat == 0 and trial.state != "failed":  # a failure says nothing of the values
            study.add_trial(_as_optuna_trial(trial, space))
    drawn = study.ask(dict(space)).params
    return {name: _round_to_step(space[name], value) for name, value in drawn.items()}


def _round_to_step(space: Distribution, value: Value) -> Value:
    """Rounds a sampled value to the one that the space lists (0.3 for 0.1 + 0.2)."""
    if not isinstance(space, FloatDistribution) or space.step is None:
        return value
    return min(all_values(space), key=lambda listed: abs(float(listed) - float(value)))


def _make_sampler(sweep: SweepConfig, seed: int) -> BaseSampler:
    if sweep.search == "random":
        return RandomSampler(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            seed=seed,
            n_startup_trials=sweep.random_trials,
            constant_liar=True,  # values that are being tried are not proposed again
        )


def _as_optuna_trial(trial: Trial, space: SearchSpace) -> FrozenTrial:
    """Returns the trial as Optuna knows it; one that diverged counts as worse than all others."""
    states = {"finished": TrialState.COMPLETE, "running": TrialState.RUNNING}
    state = states.get(trial.state, TrialState.PRUNED)
    return create_trial(
        params=trial.values,
        distributions=dict(space),
        intermediate_values={} if trial.state == "diverged" else trial.curve,
        state=state,
        value=trial.score if state == TrialState.COMPLETE else None,
    )


def count_combinations(space: SearchSpace) -> float:
    """Returns the number of combinations of values: infinity with a continuous range."""
    return math.prod(len(all_values(one)) or math.inf for one in space.values())


def require_grid(space: SearchSpace, num_trials: int) -> None:
    """Refuses a grid that cannot be tried.

    Raises:
        ValueError: for a continuous range, whose values cannot be listed, or more combinations
            than `num_trials`.
    """
    counts = []
    for name, one in space.items():
        counts.append(len(all_values(one)))
        require(counts[-1] > 0, f"space.{name}", "values or steps in a grid", format_space(one))
    size = math.prod(counts)
    if size > num_trials:
        raise ValueError(
            f"the grid has {' x '.join(map(str, counts))} = {size} combinations, over num_trials = "
            f"{num_trials}: raise it, or search fewer values"
        )


def all_combinations(space: SearchSpace) -> Iterator[Values]:
    """Yields every combination of values, the last setting changing fastest.

    There are none with a continuous range.
    """
    for values in itertools.product(*map(all_values, space.values())):
        yield dict(zip(space, values, strict=True))
