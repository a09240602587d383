"""What Optuna's TPE proposes."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from cluster.sweep.config import SweepConfig
from cluster.sweep.record import Trial
from cluster.sweep.spaces import Space, Value, Values


def tpe_values(
    sweep: SweepConfig, spaces: Sequence[Space], seed: Sequence[int], tried: Sequence[Trial]
) -> Values:
    """The values of a setting, from everything that was tried.

    Args:
        sweep: how to search.
        spaces: what to search.
        seed: of this setting and no other.
        tried: the trials so far, also those that are running.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=int(np.random.SeedSequence(seed).generate_state(1)[0]),
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
        return _range(space, *space.ends, log=space.kind == "log")
    if not space.step:
        return CategoricalDistribution(space.values)
    return _range(space, space.values[0], space.values[-1], step=space.step)


def _range(space: Space, low: Value, high: Value, **how: Any) -> BaseDistribution:
    """From `low` to `high`, of whole numbers where the setting is one."""
    if not space.whole:
        return FloatDistribution(float(low), float(high), **how)
    if "step" in how:
        how["step"] = int(how["step"])
    return IntDistribution(int(low), int(high), **how)


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
