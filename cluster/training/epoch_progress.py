"""The progress of a job that trains: a bar a phase on a terminal, elsewhere a line an epoch."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
}
"""About how long an epoch of each phase takes beside one of `coarse` (the demo, on 2 CPU cores):
what phases that have not begun are reckoned by."""

BAR: Final = "{desc}: {n_fmt} of {total_fmt} |{bar}|{postfix}"

PhaseKey = tuple[str, PhaseName]
"""The name of a training, of which a job may have several, and a phase of it."""


class EpochProgress:
    """Counts the epochs of all phases of a job, and shows them with the time that is left."""

    def __init__(self) -> None:
        self._machine = ""
        self._total = 0
        self._left: dict[PhaseKey, int] = {}
        self._bar: tqdm[Any] | None = None

    def expect(self, training: str, phases: Iterable[tuple[PhaseName, int]]) -> None:
        """Takes phases of a training, each with its number of epochs, into what is to be done."""
        for phase, num_epochs in phases:
            if (training, phase) not in self._left:
                self._left[training, phase] = num_epochs
                self._total += num_epochs

    @contextmanager
    def showing(self, phase: PhaseName, num_epochs: int) -> Iterator[None]:
        """Shows a phase's bar while it is trained, on a terminal."""
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

    def count(self, key: PhaseKey, epoch: int, num_epochs: int, seconds: float, said: str) -> None:
        """Counts an epoch as done, and shows its metrics.

        Args:
            key: the training and the phase.
            epoch: the number of the phase's epochs that are done.
            num_epochs: the number that it has.
            seconds: the time that those done took.
            said: the metrics.
        """
        phase = key[1]
        self._left[key] = num_epochs - epoch
        done = self._total - sum(self._left.values())
        left = tqdm.format_interval(self._seconds_left(phase, seconds / epoch))
        said = f"{said}; {done} of {self._total} epochs, {left} left"
        if self._bar is None:
            self.show(phase, f"epoch {epoch} of {num_epochs}: {said}")
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

    def _seconds_left(self, phase: PhaseName, seconds_per_epoch: float) -> float:
        unit = seconds_per_epoch / RELATIVE_TIME[phase]
        return sum(left * RELATIVE_TIME[other] * unit for (_, other), left in self._left.items())
