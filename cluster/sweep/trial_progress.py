"""The progress of a sweep: trials and epochs that are done, and the most time that is left."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from cluster.sweep.sweep_record import Trial
from cluster.training.epoch_progress import RELATIVE_TIME
from stn_icnn.training.phases import PhaseName


@dataclass
class TrialProgress:
    """Counts the epochs of a sweep's trials, of which some may be stopped before their end.

    A trial that has ended leaves no epochs to do. The time that is left is what epochs and
    validations take if no other trial is stopped, and each takes as long as the longest of its
    phase so far. Phases that have had no epoch yet are reckoned by the others, and the time is then
    called `about`.
    """

    trials: Sequence[Trial]
    """The trials so far, in the record, which adds others."""
    epochs: dict[PhaseName, int]
    """The number of epochs of each phase of a trial."""
    num_combinations: int
    """The number of combinations of values to try in all."""
    seeds: int
    """The number of trainings of each combination whose first one is not stopped."""
    concurrent: int
    """The most trials at a time."""
    _done: dict[str, dict[PhaseName, int]] = field(default_factory=dict, init=False)
    """The epochs that are done, by trial and phase."""
    _epoch_s: dict[PhaseName, float] = field(default_factory=dict, init=False)
    """The longest that an epoch of each phase took with its validation."""

    def count(self, trial: str, phase: PhaseName, epoch: int, seconds: float) -> None:
        """Counts an epoch as done.

        Args:
            trial: the trial's name.
            phase: its phase.
            epoch: the number of the phase's epochs that are done.
            seconds: the time that an epoch takes, with its validation.
        """
        self._done.setdefault(trial, {})[phase] = epoch
        self._epoch_s[phase] = max(seconds, self._epoch_s.get(phase, 0.0))

    def __str__(self) -> str:
        """The trials and epochs that are done of all that may come, and the most time left."""
        ended = sum(trial.state != "running" for trial in self.trials)
        to_come = self._trials_to_come()
        done = sum(sum(self._epochs_done(trial).values()) for trial in self.trials)
        left = sum(sum(epochs.values()) for epochs in self._epochs_left())
        epochs = done + left + to_come * sum(self.epochs.values())
        said = f"{ended} of {len(self.trials) + to_come} trials, {done} of {epochs} epochs"
        if not self._epoch_s:
            return said
        about = "" if self._epoch_s.keys() >= self.epochs.keys() else "about "
        return f"{said}, at most {about}{tqdm.format_interval(self._seconds_left())} left"

    def _trials_to_come(self) -> int:
        """Returns the most trials that are to start: first trainings, and the repeats of each."""
        first = [trial for trial in self.trials if trial.repeat == 0]
        may_repeat = sum(trial.state in ("running", "finished") for trial in first)
        repeats = len(self.trials) - len(first)
        new = self.num_combinations - len(first)
        return new * self.seeds + may_repeat * (self.seeds - 1) - repeats

    def _epochs_done(self, trial: Trial) -> dict[PhaseName, int]:
        """Returns a trial's epochs by phase, also of one that an earlier driver saw end."""
        last = list(self.epochs)[-1]
        before = self.epochs if trial.curve else {}
        return {**before, **self._done.get(trial.name, {}), last: trial.epochs}

    def _epochs_left(self) -> list[dict[PhaseName, int]]:
        """Returns the epochs that are left, by phase, of each trial that has not ended."""
        done = [self._epochs_done(trial) for trial in self.trials if trial.state == "running"]
        return [
            {phase: number - of_trial.get(phase, 0) for phase, number in self.epochs.items()}
            for of_trial in done
        ]

    def _seconds_left(self) -> float:
        """Returns the time until the last trial ends, each starting as soon as there is room."""
        slots = [0.0] * self.concurrent
        for epochs in (*self._epochs_left(), *[self.epochs] * self._trials_to_come()):
            heapq.heapreplace(slots, slots[0] + self._seconds(epochs))
        return max(slots)

    def _seconds(self, epochs: dict[PhaseName, int]) -> float:
        relative = max(took / RELATIVE_TIME[phase] for phase, took in self._epoch_s.items())
        return sum(
            number * self._epoch_s.get(phase, relative * RELATIVE_TIME[phase])
            for phase, number in epochs.items()
        )
