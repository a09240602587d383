"""Which setting a sweep tries next: a function of what has been tried, so that nothing of it has to
outlive a killed driver."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from cluster.spaces import Space, Values, own_value
from cluster.sweep_config import SweepConfig
from cluster.sweep_record import Trial
from stn_icnn.config import TrainConfig, require


def propose(
    sweep: SweepConfig,
    spaces: Sequence[Space],
    config: TrainConfig,
    number: int,
    tried: Sequence[Trial],
) -> Values:
    """The values of a setting.

    Args:
        sweep: how to search.
        spaces: what to search.
        config: whose own values are the first to be tried, where the spaces hold them.
        number: of the setting, from 0.
        tried: the trials so far, also those that are running.
    """
    if sweep.search == "grid":
        return grid_values(spaces, number)
    own = {space.name: own_value(config, space.name) for space in spaces}
    if number == 0 and all(space.contains(own[space.name]) for space in spaces):
        return own
    if sweep.search == "random":
        rng = np.random.default_rng([sweep.search_seed, number])
        return {space.name: space.draw(rng) for space in spaces}
    return _tpe_values(sweep, spaces, number, tried)


def require_grid(spaces: Sequence[Space], num_trials: int) -> int:
    """The number of combinations of a grid.

    Raises:
        ValueError: for a range, which has no values of its own, and for more than `num_trials`.
    """
    for space in spaces:
        require(space.kind == "values", f"space.{space.name}", "values or steps in a grid", space)
    counts = [len(space.values) for space in spaces]
    size = math.prod(counts)
    if size > num_trials:
        raise ValueError(
            f"the grid has {' x '.join(map(str, counts))} = {size} settings, over num_trials = "
            f"{num_trials}: raise it, or search fewer values"
        )
    return size


def grid_values(spaces: Sequence[Space], number: int) -> Values:
    """A combination by its number; the last setting changes fastest."""
    values = {}
    for space in reversed(spaces):
        number, place = divmod(number, len(space.values))
        values[space.name] = space.values[place]
    return {space.name: values[space.name] for space in spaces}


def _tpe_values(
    sweep: SweepConfig, spaces: Sequence[Space], number: int, tried: Sequence[Trial]
) -> Values:
    """What Optuna's TPE proposes, told of everything that was tried."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=sweep.search_seed + number,  # else it would draw the same after a restart
            n_startup_trials=sweep.random_trials,
            constant_liar=True,  # a setting that is being tried is not proposed again
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {space.name: _distribution(space) for space in spaces}
    for trial in tried:
        if trial.repeat == 0 and trial.state != "failed":  # which says nothing of its setting
            study.add_trial(_told(trial, distributions))
    return dict(study.ask(distributions).params)


def _distribution(space: Space) -> BaseDistribution:
    if space.kind != "values":
        kind = IntDistribution if space.whole else FloatDistribution
        low, high = space.ends
        return kind(low, high, log=space.kind == "log")
    if not space.step:
        return CategoricalDistribution(space.values)
    first, last = space.values[0], space.values[-1]
    if space.whole:
        return IntDistribution(first, last, step=int(space.step))
    return FloatDistribution(first, last, step=space.step)


def _told(trial: Trial, distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    """A trial as Optuna knows it. One that diverged counts as worse than all."""
    states = {"finished": TrialState.COMPLETE, "running": TrialState.RUNNING}
    state = states.get(trial.state, TrialState.PRUNED)
    curve = {} if trial.state == "diverged" else trial.curve
    return create_trial(
        params=trial.values,
        distributions=distributions,
        intermediate_values=curve,
        state=state,
        value=trial.score if state == TrialState.COMPLETE else None,
    )
