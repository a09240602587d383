"""How many steps a worker's process has done, as Ray Train's controller may ask it."""

from typing import NamedTuple


class StepsDone(NamedTuple):
    """Steps of a phase that are done."""

    first: int
    """Their number where this process began."""
    now: int


_noted: StepsDone | None = None


def note_steps(num_done: int) -> None:
    """Takes note of the number of steps that this process's run has done."""
    global _noted
    _noted = StepsDone(num_done if _noted is None else _noted.first, num_done)


def steps_done() -> StepsDone | None:
    """Returns what was noted; None: the run has not begun, or has no steps."""
    return _noted
