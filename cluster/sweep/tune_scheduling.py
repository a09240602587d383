"""What Tune asks a sweep: which trial is next, and whether one is to go on."""

import math
from collections.abc import Callable, Mapping, Sequence
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
"""The values of a setting, by its number and what has been tried."""


class SweepSearch(Searcher):
    """Hands out trials: those that an earlier driver left, repeats that are due, new settings.

    Args:
        record: of the sweep. A trial is in it before Tune hears of it.
        propose: new settings.
        num_settings: to be tried in all.
        seeds: trainings of each setting that came to its end.
        first_seed: of a setting's first training.
        on_start: called with each trial before it starts. Where it leaves the trial's state other
            than `running`, the next one is handed out.
    """

    def __init__(
        self,
        record: SweepRecord,
        propose: Propose,
        *,
        num_settings: int,
        seeds: int,
        first_seed: int,
        on_start: Callable[[Trial], None],
    ) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._record = record
        self._propose = propose
        self._num_settings = num_settings
        self._seeds = seeds
        self._first_seed = first_seed
        self._on_start = on_start
        self._left = [trial for trial in record.trials if trial.state in ("running", "failed")]

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, `FINISHED`, or None where that depends on those that are running."""
        while trial := self._next_trial():
            self._on_start(trial)
            if trial.state == "running":
                return {"trial": trial.name, "values": trial.values, "seed": trial.seed}
        waits = self._seeds > 1 and any(t.state == "running" for t in self._record.trials)
        return None if waits else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the record has it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record has it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes one down, which nobody reads

    def _next_trial(self) -> Trial | None:
        if self._left:
            trial = self._left.pop(0)
            trial.state, trial.error, trial.tracked = "running", None, False
            self._record.save(trial)
            return trial
        new = self._due_repeat() or self._new_setting()
        if new is not None:
            self._record.add(new)
        return new

    def _due_repeat(self) -> Trial | None:
        for first in self._record.trials:
            if first.repeat == 0 and first.state == "finished":
                repeat = len(self._record.of_setting(first.setting))
                if repeat < self._seeds:
                    return self._trial(first.setting, repeat, first.values)
        return None

    def _new_setting(self) -> Trial | None:
        number = self._record.num_settings
        if number >= self._num_settings:
            return None
        return self._trial(number, 0, self._propose(number, self._record.trials))

    def _trial(self, setting: int, repeat: int, values: Values) -> Trial:
        name = trial_name(setting, repeat)
        return Trial(name, setting, repeat, self._first_seed + repeat, values)


class Pruner(ASHAScheduler):
    """ASHA over the first training of each setting; its repeats train to their end.

    It knows trials by our names, so that one that goes on is the one that it was: what it reports
    again has been judged, and is not judged by what the others have come to since.
    """

    def __init__(self, sweep: SweepConfig, num_epochs: int, trials: Sequence[Trial]) -> None:
        """Knows what earlier drivers' trials have come to, as if it had seen them.

        Args:
            sweep: least epochs, and how many go on.
            num_epochs: of a trial that is not stopped.
            trials: of the sweep.
        """
        super().__init__(
            time_attr=EPOCH,
            metric=SCORE,
            mode="max",
            max_t=num_epochs,
            grace_period=sweep.grace_epochs,
            reduction_factor=sweep.reduction_factor,
            stop_last_trials=False,  # else what comes again is judged again
        )
        for trial in trials:
            seen = SimpleNamespace(config={"trial": trial.name})
            self.on_trial_add(None, seen)
            for epoch, score in sorted(trial.curve.items()):
                self.on_trial_result(None, seen, {EPOCH: epoch, SCORE: score})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Takes a trial up."""
        super().on_trial_add(tune_controller, _by_name(trial))

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forgets a trial, but not what it has come to."""
        super().on_trial_remove(tune_controller, _by_name(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Whether a trial is to go on."""
        if self._is_judged(trial, result):
            return str(super().on_trial_result(tune_controller, _by_name(trial), dict(result)))
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(
        self, tune_controller: Any, trial: Any, result: Mapping[str, Any]
    ) -> None:
        """Counts the last result of a trial."""
        if self._is_judged(trial, result):
            super().on_trial_complete(tune_controller, _by_name(trial), dict(result))

    def _is_judged(self, trial: Any, result: Mapping[str, Any]) -> bool:
        """The score is infinite before the last phase, and where the loss has diverged."""
        return "-seed-" not in trial.config["trial"] and math.isfinite(result.get(SCORE, -math.inf))


def _by_name(trial: Any) -> Any:
    return SimpleNamespace(trial_id=trial.config["trial"])
