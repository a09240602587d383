"""Which setting a sweep tries next: a function of what has been tried, so that nothing of it has to
outlive a killed driver."""

import importlib.util
import math
from collections.abc import Sequence

import numpy as np

from cluster.sweep.config import SweepConfig
from cluster.sweep.record import Trial
from cluster.sweep.spaces import Space, Values, own_value
from stn_icnn.config import TrainConfig, require

ATTEMPTS = 10


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

    Returns:
        Values that have not been tried: a training of them would be the same to the last bit.
    """
    if sweep.search == "grid":
        return grid_values(spaces, number)
    own = {space.name: own_value(config, space.name) for space in spaces}
    if number == 0 and all(space.contains(own[space.name]) for space in spaces):
        return own
    known = [trial.values for trial in tried]
    for attempt in range(ATTEMPTS):
        values = _drawn(sweep, spaces, (sweep.search_seed, number, attempt), tried)
        if values not in known:
            return values
    size = num_combinations(spaces)
    others = (grid_values(spaces, i) for i in range(size if isinstance(size, int) else 0))
    return next((other for other in others if other not in known), values)


def _drawn(
    sweep: SweepConfig, spaces: Sequence[Space], seed: Sequence[int], tried: Sequence[Trial]
) -> Values:
    if sweep.search == "random":
        rng = np.random.default_rng(seed)
        return {space.name: space.draw(rng) for space in spaces}
    from cluster.sweep.tpe import tpe_values  # here: Optuna is an extra

    return tpe_values(sweep, spaces, seed, tried)


def require_search(sweep: SweepConfig) -> None:
    """Refuses a search whose package is not installed.

    Raises:
        ValueError: saying what to do.
    """
    if sweep.search == "optuna" and importlib.util.find_spec("optuna") is None:
        raise ValueError(
            "sweep.search optuna needs optuna, not installed here: pip install 'stn-icnn[sweep]', "
            "or give --sweep.search random"
        )


def num_combinations(spaces: Sequence[Space]) -> float:
    """Settings that there are; infinity with a range that is not of whole numbers."""
    return math.prod(len(space.every) or math.inf for space in spaces)


def require_grid(spaces: Sequence[Space], num_trials: int) -> None:
    """Refuses a grid that can't be tried.

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


def grid_values(spaces: Sequence[Space], number: int) -> Values:
    """A combination by its number; the last setting changes fastest."""
    values = {}
    for space in reversed(spaces):
        number, place = divmod(number, len(space.every))
        values[space.name] = space.every[place]
    return {space.name: values[space.name] for space in spaces}
