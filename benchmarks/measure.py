"""Timing works in turn, and the rows that figures are kept in."""

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
    """One figure."""

    figure: str
    rounds: Sequence[float] = ()
    """The ratio in each round; none: not measured, the note says why."""
    absolute: Mapping[str, float] = field(default_factory=dict)
    """Times and rates of the sides in this run, by name with unit, for orientation."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Shares of a time, by what took it."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The median of the rounds."""
        return statistics.median(self.rounds) if self.rounds else None

    def to_json(self) -> dict[str, Any]:
        """With the median."""
        return {"figure": self.figure, "ratio": self.ratio, **asdict(self)}

    def to_markdown(self) -> str:
        """A line of the table under `HEADER`."""
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
    """Seconds of a call of each work, a value a round."""

    seconds: Mapping[str, Sequence[float]]

    def ratio(self, one: str, other: str, factor: float = 1.0) -> list[float]:
        """`factor` times seconds of one by seconds of the other, round by round."""
        pairs = zip(self.seconds[one], self.seconds[other], strict=True)
        return [factor * a / b for a, b in pairs]

    def ms(self, name: str, num: int = 1) -> float:
        """Median milliseconds of each of `num` things that a call does."""
        return 1000 * statistics.median(self.seconds[name]) / num

    def rate(self, name: str, num: int) -> float:
        """Median of how many things a second are done, `num` a call."""
        return num / statistics.median(self.seconds[name])


def in_turn(works: Mapping[str, Work], rounds: int) -> Times:
    """Times works alternately, each warmed up first: whatever else the machine does hits all."""
    return Times(time_in_turn(works, rounds))


RUN_AND_WEIGH = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Prints the KiB of the largest process of a command; small itself, for a child counts its parent's
memory until it runs another program."""


def peak_mib(*arguments: str) -> float:
    """MiB of the largest process of a Python command line.

    Raises:
        RuntimeError: where it fails, with what it said.
    """
    command = [sys.executable, "-c", RUN_AND_WEIGH, sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        name = " ".join(arguments)
        raise RuntimeError(f"{name} failed, status {done.returncode}: {done.stderr[-2000:]}")
    return int(done.stdout) / 1024
