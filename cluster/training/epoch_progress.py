"""The progress of a job that trains: a bar a phase on a terminal, elsewhere a line an epoch."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tqdm import tqdm

from stn_icnn.training.phases import PhaseName

RELATIVE_TIME: Final[dict[PhaseName, float]] = {
    "coarse": 1,
    "localizer": 0.7,
    "fine": 5,
    "baseline": 5,
    "frozen": 5,
    "end_to_end": 6,
    "finder": 0.5,
}
"""About how long an epoch of each phase takes beside one of `coarse` (the demo, on 2 CPU cores; the
finder of `celebamask-tuned`): what phases that have not begun are reckoned by."""

VALIDATION_COST: Final = 1 / 3
"""About how long validating an image takes beside training on one, until it is measured."""

BAR: Final = "{desc}: {n_fmt} of {total_fmt} |{bar}|{postfix}"

PhaseKey = tuple[str, PhaseName]
"""The name of a training, of which a job may have several, and a phase of it."""


@dataclass
class PhaseTime:
    """What is left of a phase, and how long its parts take as far as that is measured."""

    phase: PhaseName
    num_epochs: int
    validate_every: int
    """Number of epochs from one validation to the next; the last epoch is validated in any case."""
    validation_cost: float
    """About how long a validation takes beside an epoch, until it is measured."""
    done: int = 0
    """Number of epochs that are done."""
    epoch_s: float | None = None
    validation_s: float | None = None

    @property
    def validations_left(self) -> int:
        """The number of validations in the epochs that are left."""
        left = range(self.done + 1, self.num_epochs + 1)
        return sum(i % self.validate_every == 0 or i == self.num_epochs for i in left)

    @property
    def is_measured(self) -> bool:
        """Whether nothing of its time is an estimate."""
        known = self.epoch_s is not None and self.validation_s is not None
        return known or self.done == self.num_epochs


class EpochProgress:
    """Counts the epochs of all phases of a job, and shows them with the time that is left.

    The time is that of epochs, validations, the start of each phase's workers, and the scoring of
    the model. What has not been measured yet is reckoned by what has been, and the time is then
    shown as `about`.

    Args:
        clock: tells the time in seconds, from any start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._machine = ""
        self._phases: dict[PhaseKey, PhaseTime] = {}
        self._began: float | None = None  # when the phase that has had no epoch yet was started
        self._start_s = 0.0
        self._scored: dict[str, float] = {}  # by training, beside a validation
        self._repeated: dict[str, str] = {}
        self._bar: tqdm[Any] | None = None

    def expect(
        self,
        training: str,
        phases: Iterable[tuple[PhaseName, int]],
        validate_every: int = 1,
        images_validated: float = 1.0,
    ) -> None:
        """Takes phases of a training, each with its number of epochs, into what is to be done.

        Args:
            training: the training's name.
            phases: its phases, each with its number of epochs.
            validate_every: the number of epochs from one validation to the next.
            images_validated: the number of images of a validation beside that of an epoch.
        """
        self._repeated.pop(training, None)
        cost = images_validated * VALIDATION_COST
        for phase, num_epochs in phases:
            new = PhaseTime(phase, num_epochs, validate_every, cost)
            self._phases.setdefault((training, phase), new)

    def expect_scoring(self, training: str, images_scored: float) -> None:
        """Takes the scoring of what a training has made into what is to be done.

        Args:
            training: the training's name.
            images_scored: the number of images, once for each model, beside that of a validation.
        """
        self._scored[training] = images_scored

    def count_scoring(self, training: str) -> None:
        """Counts the scoring of what a training has made as done, if it was expected."""
        self._scored.pop(training, None)

    def expect_as_long(self, training: str, other: str) -> None:
        """Takes a training that is to take as long as another into what is to be done.

        Its epochs are chosen later: `expect` then takes the place of this.
        """
        self._repeated[training] = other

    @contextmanager
    def showing(self, phase: PhaseName, num_epochs: int) -> Iterator[None]:
        """Shows a phase's bar while it is trained, on a terminal."""
        self._began = self._clock()
        if not sys.stdout.isatty():
            yield
            return
        bar: tqdm[Any] = tqdm(
            total=num_epochs, desc=phase, bar_format=BAR, dynamic_ncols=True, file=sys.stdout
        )
        try:
            with bar as self._bar:
                yield
        finally:
            self._bar = None

    def count(
        self,
        key: PhaseKey,
        epoch: int,
        seconds: float,
        said: str,
        validation_s: float | None = None,
    ) -> None:
        """Counts an epoch as done, and shows its metrics.

        Args:
            key: the training and the phase, which is expected.
            epoch: the number of the phase's epochs that are done.
            seconds: the time that the steps of those done took.
            said: the metrics.
            validation_s: the time of the epoch's validation; None: it had none.
        """
        counted = self._phases[key]
        counted.done, counted.epoch_s = epoch, seconds / epoch
        if validation_s is not None:
            counted.validation_s = validation_s
        if self._began is not None:
            took = self._clock() - self._began
            self._start_s = max(0.0, took - counted.epoch_s - (validation_s or 0.0))
            self._began = None
        total = sum(one.num_epochs for one in self._phases.values())
        done = sum(one.done for one in self._phases.values())
        left = tqdm.format_interval(self._seconds_left(counted))
        measured = not self._repeated and all(one.is_measured for one in self._phases.values())
        about = "" if measured else "about "
        said = f"{said}; {done} of {total} epochs, {about}{left} left"
        if self._bar is None:
            self.show(counted.phase, f"epoch {epoch} of {counted.num_epochs}: {said}")
        else:
            self._bar.n = epoch
            self._bar.set_postfix_str(said)

    def show_machine(self, phase: PhaseName, machine: str) -> None:
        """Shows the machine that a phase is trained on, where the last one was on another."""
        if machine != self._machine:
            self.show(phase, f"on {machine}")
        self._machine = machine

    def show(self, phase: PhaseName, text: str) -> None:
        """Shows a line about a phase, above the bar if there is one."""
        tqdm.write(f"{phase}: {text}", file=sys.stdout)
        sys.stdout.flush()

    def _seconds_left(self, latest: PhaseTime) -> float:
        """Returns the time that is left.

        Args:
            latest: the phase by whose times those that are not measured are reckoned.
        """
        epochs = {key: self._epoch_s(one, latest) for key, one in self._phases.items()}
        validations = {
            key: self._validation_s(one, latest, epochs[key]) for key, one in self._phases.items()
        }
        left = sum(
            (one.num_epochs - one.done) * epochs[key] + one.validations_left * validations[key]
            for key, one in self._phases.items()
        )
        left += self._start_s * sum(one.done == 0 for one in self._phases.values())
        for other in self._repeated.values():
            of_other = [(key, one) for key, one in self._phases.items() if key[0] == other]
            left += sum(one.num_epochs * epochs[key] for key, one in of_other)
        for training, share in self._scored.items():
            of_training = [one for (name, _), one in validations.items() if name == training]
            validation_s = (of_training or list(validations.values()))[-1]
            left += self._start_s + share * validation_s
        return left

    def _epoch_s(self, one: PhaseTime, latest: PhaseTime) -> float:
        if one.epoch_s is not None:
            return one.epoch_s
        assert latest.epoch_s is not None  # an epoch of it was counted
        return latest.epoch_s / RELATIVE_TIME[latest.phase] * RELATIVE_TIME[one.phase]

    def _validation_s(self, one: PhaseTime, latest: PhaseTime, epoch_s: float) -> float:
        if one.validation_s is not None:
            return one.validation_s
        if latest.validation_s is not None and latest.epoch_s:
            return epoch_s * latest.validation_s / latest.epoch_s
        return epoch_s * one.validation_cost
