"""Tells Ray Tune which trial of a sweep starts next, and which is stopped."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.sweep.config import SweepConfig
from cluster.sweep.spaces import Values
from cluster.sweep.sweep_record import SweepRecord, Trial, trial_name

SCORE = "score"
EPOCH = "epoch"

Propose = Callable[[int, Sequence[Trial]], Values]
"""Returns new values to try, from the number of proposals before and all trials so far."""


@dataclass(eq=False)
class SweepSearch(Searcher):
    """Hands out trials: those that an earlier driver left, repeats that are due, then new ones."""

    record: SweepRecord
    """The record of the sweep. A trial is in it before Tune gets it."""
    propose: Propose
    """Gives the values of new trials."""
    num_combinations: int
    """How many combinations of values are tried in all."""
    seeds: int
    """How often each combination is trained whose first training was not stopped."""
    first_seed: int
    """The seed of a combination's first training."""
    on_start: Callable[[Trial], None]
    """Called with each trial before it starts. Where it leaves the trial's state other than
    `running`, the next one is handed out."""

    def __post_init__(self) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._left = [trial for trial in self.record.trials if trial.state in ("running", "failed")]

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next trial, `FINISHED`, or None where that depends on running ones."""
        while trial := self._next_trial():
            self.on_start(trial)
            if trial.state == "running":
                return {"trial": trial.name, "values": trial.values, "seed": trial.seed}
        waits = self.seeds > 1 and any(t.state == "running" for t in self.record.trials)
        return None if waits else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Does nothing: the record has the result."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the record has what is tried."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves it, and nothing reads it

    def _next_trial(self) -> Trial | None:
        if self._left:
            trial = self._left.pop(0)
            trial.state, trial.error, trial.tracked = "running", None, False
            self.record.save(trial)
            return trial
        new = self._due_repeat() or self._new_combination()
        if new is not None:
            self.record.add(new)
        return new

    def _due_repeat(self) -> Trial | None:
        for first in self.record.trials:
            if first.repeat == 0 and first.state == "finished":
                repeat = len(self.record.of_combination(first.combination))
                if repeat < self.seeds:
                    return self._trial(first.combination, repeat, first.values)
        return None

    def _new_combination(self) -> Trial | None:
        number = self.record.num_combinations
        if number >= self.num_combinations:
            return None
        return self._trial(number, 0, self.propose(number, self.record.trials))

    def _trial(self, combination: int, repeat: int, values: Values) -> Trial:
        name = trial_name(combination, repeat)
        return Trial(name, combination, repeat, self.first_seed + repeat, values)


class Pruner(ASHAScheduler):
    """ASHA over the first training of each combination of values; repeats train to their end.

    It identifies trials by their names in the sweep, not by Tune's ids, which are new with each
    driver: what a trial that goes on reports again has been compared, and is not compared again
    with what the others have reported since.
    """

    def __init__(self, sweep: SweepConfig, num_epochs: int, trials: Sequence[Trial]) -> None:
        """Replays the reports of the trials so far, as if it had received them.

        Args:
            sweep: has the epochs before the first comparison, and the share of trials that go on.
            num_epochs: epochs of a trial that is not stopped.
            trials: the trials of the sweep so far.
        """
        super().__init__(
            time_attr=EPOCH,
            metric=SCORE,
            mode="max",
            max_t=num_epochs,
            grace_period=sweep.grace_epochs,
            reduction_factor=sweep.reduction_factor,
            stop_last_trials=False,  # else a repeated report is compared again
        )
        for trial in trials:
            replayed = SimpleNamespace(config={"trial": trial.name})
            self.on_trial_add(None, replayed)
            for epoch, score in sorted(trial.curve.items()):
                self.on_trial_result(None, replayed, {EPOCH: epoch, SCORE: score})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Registers a trial."""
        super().on_trial_add(tune_controller, _by_name(trial))

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forgets a trial, but not what it has reported."""
        super().on_trial_remove(tune_controller, _by_name(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Returns whether a trial goes on: `CONTINUE` or `STOP`."""
        if self._is_compared(trial, result):
            return str(super().on_trial_result(tune_controller, _by_name(trial), dict(result)))
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(
        self, tune_controller: Any, trial: Any, result: Mapping[str, Any]
    ) -> None:
        """Takes the last result of a trial into account."""
        if self._is_compared(trial, result):
            super().on_trial_complete(tune_controller, _by_name(trial), dict(result))

    def _is_compared(self, trial: Any, result: Mapping[str, Any]) -> bool:
        """Returns whether a result is of a first training, and has a score.

        The score is infinite before the last phase, and where the loss has diverged.
        """
        return "-seed-" not in trial.config["trial"] and math.isfinite(result.get(SCORE, -math.inf))


def _by_name(trial: Any) -> Any:
    return SimpleNamespace(trial_id=trial.config["trial"])
