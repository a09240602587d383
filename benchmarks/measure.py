"""Times pieces of work in turn, and defines the rows of figures."""

import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from stn_icnn.studies.timing import Work, time_in_turn

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

HEADER = "| figure | ratio | rounds | absolute | note |\n|---|---|---|---|---|"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured figure: a ratio, with what explains it."""

    figure: str
    rounds: Sequence[float] = ()
    """The ratio in each round; empty if it was not measured, for the reason in the note."""
    absolute: Mapping[str, float] = field(default_factory=dict)
    """Times and rates of the sides in this run, by name with unit, for orientation."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """The shares of a time, by the kind of operation that took it."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The median of the rounds, if it was measured."""
        return statistics.median(self.rounds) if self.rounds else None

    def to_json(self) -> dict[str, Any]:
        """Returns the row as plain types, with the median."""
        return {"figure": self.figure, "ratio": self.ratio, **asdict(self)}

    def to_markdown(self) -> str:
        """Returns the row as a line of the table under `HEADER`."""
        ratio, spread = "-", ""
        if self.rounds:
            ratio = f"{statistics.median(self.rounds):.3g}"
            spread = f"{min(self.rounds):.3g} to {max(self.rounds):.3g}"
        absolute = ", ".join(f"{name} {value:.4g}" for name, value in self.absolute.items())
        parts = ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.parts.items())
        note = "; ".join(filter(None, [self.note, parts]))
        return f"| {self.figure} | {ratio} | {spread} | {absolute} | {note} |"


@dataclass(frozen=True)
class Times:
    """The seconds of a call of each piece of work, one value for each round."""

    seconds: Mapping[str, Sequence[float]]

    def ratio(self, one: str, other: str, factor: float = 1.0) -> list[float]:
        """Divides `factor` times the seconds of one by those of the other, round by round."""
        pairs = zip(self.seconds[one], self.seconds[other], strict=True)
        return [factor * a / b for a, b in pairs]

    def ms(self, name: str, num: int = 1) -> float:
        """Returns the median milliseconds of each of `num` things that a call does."""
        return 1000 * statistics.median(self.seconds[name]) / num

    def rate(self, name: str, num: int) -> float:
        """Returns the median number of things done a second, `num` of them in a call."""
        return num / statistics.median(self.seconds[name])


def in_turn(works: Mapping[str, Work], rounds: int) -> Times:
    """Times pieces of work alternately, so that what else the machine does hits all of them."""
    return Times(time_in_turn(works, rounds))


RUN_AND_WEIGH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Prints the KiB of the largest process of a command; small itself, for a child counts its parent's
memory until it runs another program."""


def peak_mib(*arguments: str) -> float:
    """Measures the MiB of the largest process of a Python command line.

    Raises:
        RuntimeError: the command failed; the message holds the end of its stderr.
    """
    command = [sys.executable, "-c", RUN_AND_WEIGH, sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        name = " ".join(arguments)
        raise RuntimeError(f"{name} failed, status {done.returncode}: {done.stderr[-2000:]}")
    return int(done.stdout) / 1024
