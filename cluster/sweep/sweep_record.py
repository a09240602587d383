"""The record of a sweep in its storage, from which the same command goes on.

A trial's file is written before the trial starts, and anew at each of its reports. So however the
driver ends, each trial is there once, with all that it has reported.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from cluster.storage.records import create_or_load, read_record, write_record
from cluster.sweep.spaces import SearchSpace, Values, format_space, stands_for
from stn_icnn.storage import StorageLocation

SWEEP_FILE = "sweep.json"
TRIALS = "trials"

State = Literal["running", "finished", "pruned", "diverged", "failed"]


@dataclass
class Trial:
    """One training of a sweep."""

    name: str
    combination: int
    """Number of the combination of values, from 0."""
    repeat: int
    """Number of the training of that combination, from 0."""
    seed: int
    """Seed of the training."""
    values: Values
    """The searched settings' values."""
    state: State = "running"
    """`running`: it is to start or to go on. `finished`: it was trained to its end. `pruned`: the
    scheduler stopped it. `diverged`: its loss was no number. `failed`: an error ended it, more
    often than allowed."""
    curve: dict[int, float] = field(default_factory=dict)
    """Score by epoch of the last phase, from 1; higher is better."""
    error: str | None = None
    """Why it failed, or diverged."""
    tracked: bool = False
    """Whether its end is in MLflow."""
    seconds: dict[str, float] = field(default_factory=dict)
    """The time that the steps of each phase took so far, seconds."""
    computed_on: str = ""
    """The machine of its last report; empty where an earlier version recorded it."""

    @property
    def score(self) -> float | None:
        """Its best epoch's score, whose model is the trial's; None before the first."""
        return max(self.curve.values(), default=None)

    @property
    def best_epoch(self) -> int | None:
        """The epoch, the first one if several are alike, whose model is the trial's."""
        return max(self.curve, key=self.curve.__getitem__, default=None)

    @property
    def minutes(self) -> float | None:
        """The minutes that the steps of its phases took; None where they were not recorded."""
        if self.curve and not self.seconds:
            return None
        return sum(self.seconds.values()) / 60

    @property
    def epochs(self) -> int:
        """Number of epochs of the last phase that it was trained so far."""
        return max(self.curve, default=0)


def trial_name(combination: int, repeat: int) -> str:
    """Returns the name of a trial in storage, MLflow and reports."""
    return f"trial-{combination:04d}" + (f"-seed-{repeat}" if repeat else "")


@dataclass(frozen=True)
class SweepRecord:
    """The settings of a sweep and its trials, in the order in which they were first started."""

    storage: StorageLocation
    """The location of the sweep."""
    content: dict[str, Any]
    """The settings that its results depend on, as they are stored."""
    space: SearchSpace
    """What it searches, in the stored order, by which the combinations of a grid are numbered."""
    trials: list[Trial]

    @classmethod
    def open(cls, storage: StorageLocation, content: dict[str, Any], space: SearchSpace) -> Self:
        """Starts a sweep's record, or goes on with it.

        Args:
            storage: the location of the sweep.
            content: the settings that its results depend on, nested, of types that JSON holds.
            space: what it searches, which is stored with them.

        Raises:
            ValueError: naming the settings in which the sweep of this name was started otherwise.
        """
        stored = read_record(storage, SWEEP_FILE)["space"] if storage.exists(SWEEP_FILE) else {}
        space = {name: space[name] for name in (*stored, *space) if name in space}
        texts = {
            name: stored[name] if stands_for(stored.get(name, ""), one) else format_space(one)
            for name, one in space.items()
        }
        content = {**content, "space": texts}
        create_or_load(storage, SWEEP_FILE, content)
        return cls(storage, content, space, load_trials(storage))

    def add(self, trial: Trial) -> None:
        """Adds a trial, before it starts."""
        assert all(trial.name != other.name for other in self.trials)
        self.save(trial)
        self.trials.append(trial)

    def save(self, trial: Trial) -> None:
        """Writes a trial as it is now."""
        write_record(self.storage.child(TRIALS), f"{trial.name}.json", asdict(trial))

    def named(self, name: str) -> Trial:
        """Returns the trial of a name."""
        return next(trial for trial in self.trials if trial.name == name)

    def of_combination(self, combination: int) -> list[Trial]:
        """Returns the trainings of a combination of values, in order."""
        return [trial for trial in self.trials if trial.combination == combination]

    @property
    def num_combinations(self) -> int:
        """Combinations of values that have been proposed."""
        return len({trial.combination for trial in self.trials})


def load_trials(storage: StorageLocation) -> list[Trial]:
    """Reads the trials of a sweep, in the order in which they were first started."""
    location = storage.child(TRIALS)
    files = [path for path in location.list() if path.endswith(".json")]
    trials = [_trial_of(read_record(location, path)) for path in files]
    return sorted(trials, key=lambda trial: (trial.combination, trial.repeat))


def _trial_of(content: dict[str, Any]) -> Trial:
    curve = {int(epoch): score for epoch, score in content.pop("curve").items()}
    if "setting" in content:  # as the combination was called before
        content["combination"] = content.pop("setting")
    return Trial(**content, curve=curve)
