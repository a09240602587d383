"""Search spaces: read from words, checked against the settings they stand for, drawn from."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stn_icnn.config import PhaseName, TrainConfig, require
from stn_icnn.config_dict import from_dict, to_dict
from stn_icnn.labels import FINE_NETWORKS

Value = float | int | str | bool
Values = dict[str, Value]
"""Searched settings, by dotted name."""

KINDS = {"log": 2, "uniform": 2, "steps": 3}
"""Numbers that follow each."""
FORMS = "log LOW HIGH, uniform LOW HIGH, steps LOW HIGH STEP, or two or more values"
MOST_STEPS = 1000
MOST_CHECKED = 1024
"""Values of a space, and combinations of ends."""

CUTTING: tuple[PhaseName, ...] = ("end_to_end", "frozen", "fine")
"""Phases that train on windows."""

USED_BY: Mapping[str, tuple[PhaseName, ...]] = {
    "model.coarse_px": ("coarse", "localizer", "end_to_end", "frozen"),
    "model.learn_scale": ("localizer", "end_to_end", "frozen"),
    "model.window_px": CUTTING,
    "model.patch_px": CUTTING,
    "augment.window_shift": CUTTING,
    "augment.window_scale": CUTTING,
    "optim.lr_coarse": ("coarse",),
    "optim.lr_localizer": ("localizer",),
    "optim.lr_coarse_end_to_end": ("end_to_end",),
    "optim.lr_localizer_end_to_end": ("end_to_end",),
    "optim.lr_fine": CUTTING,
    "optim.freeze_pretrained_stats": ("end_to_end",),
    "loss": ("end_to_end",),
}
"""Phases that a setting, or a group of them, has an effect in; those not named: in all."""

PAPERS_OPERATIONS = tuple(
    f"augment.{name}" for name in ("rotation_deg", "shift", "scale_min", "scale_max", "noise_std")
)

NOT_SEARCHED: Mapping[str, str] = {
    "seed": "--seeds repeats each setting",
    "fine": "it says what is scored, so that trials would not compare",
    "optim.epochs": "it is what a trial costs, so that trials would not compare",
    "validate_every_epochs": "a trial is validated after every epoch",
}


@dataclass(frozen=True)
class Space:
    """The values that a setting may take."""

    name: str
    """Dotted name of the setting."""
    kind: Literal["log", "uniform", "values"]
    whole: bool
    """Whether it is a whole number."""
    low: float = 0
    high: float = 0
    values: tuple[Value, ...] = ()
    """In order, of `values`."""
    step: float = 0
    """Between those values; 0 where they were listed."""

    @property
    def every(self) -> Sequence[Value]:
        """All values; none of a range that is not of whole numbers."""
        if self.kind == "values":
            return self.values
        return range(int(self.low), int(self.high) + 1) if self.whole else ()

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values that are listed, or of a range or of steps both ends."""
        if self.kind == "values":
            return (self.values[0], self.values[-1]) if self.step else self.values
        return self._typed(self.low), self._typed(self.high)

    def contains(self, value: object) -> bool:
        """Whether it may take a value."""
        if self.kind == "values":
            return value in self.values
        return isinstance(value, int | float) and self.low <= value <= self.high

    def draw(self, rng: np.random.Generator) -> Value:
        """One of its values, each (on the scale of its kind) as likely as any other."""
        if self.kind == "values":
            return self.values[int(rng.integers(len(self.values)))]
        if self.kind == "uniform":
            return self._typed(rng.uniform(self.low, self.high))
        return self._typed(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))

    def _typed(self, value: float) -> Value:
        if self.whole:
            return int(min(max(round(value), self.low), self.high))
        return float(min(max(value, self.low), self.high))

    def __str__(self) -> str:
        if self.kind == "values":
            return " ".join(map(shown, self.values))
        return f"{self.kind} {self.low:g} {self.high:g}"


def shown(value: object) -> str:
    """A value as it is printed everywhere."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def is_number(value: object) -> bool:
    """Whether a value is one that a range can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_space(name: str, words: Sequence[str], current: object) -> Space:
    """Reads a space.

    Args:
        name: dotted name of the setting.
        words: as on the command line.
        current: the setting's value, which says of what type it is.

    Raises:
        ValueError: naming the setting, what is allowed and what was given.
    """
    what, given = f"space.{name}", " ".join(words) or "nothing"
    if isinstance(current, Mapping):  # four sizes: one for all of them
        current = next(iter(current.values()))
    whole = isinstance(current, int) and not isinstance(current, bool)
    if not words or words[0] not in KINDS:
        values = tuple(_value(what, word, current) for word in words)
        require(len(values) >= 2, what, FORMS, given)
        require(len(set(values)) == len(values), what, "of values given once", given)
        return Space(name, "values", whole, values=values)
    require(is_number(current), what, "a list of values, as it is not a number", given)
    kind, *numbers = words
    require(len(numbers) == KINDS[kind], what, FORMS, given)
    low, high, *step = (float(_value(what, word, current)) for word in numbers)
    require(low < high, what, "a range with LOW under HIGH", given)
    if kind == "steps":
        require(step[0] > 0, what, "a range with STEP over 0", given)
        num = int((high - low) / step[0] + 1e-9) + 1
        require(2 <= num <= MOST_STEPS, what, f"of 2 to {MOST_STEPS} steps", f"{num} ({given})")
        at = (low + i * step[0] for i in range(num))
        steps: tuple[Value, ...] = tuple(int(v) if whole else round(v, 12) for v in at)
        return Space(name, "values", whole, values=steps, step=step[0])
    require(kind == "uniform" or low > 0, what, "a log range with LOW over 0", given)
    return Space(name, "log" if kind == "log" else "uniform", whole, low, high)


def _value(what: str, word: str, current: object) -> Value:
    """A word as a value of the type of another."""
    if isinstance(current, bool):
        require(word in ("true", "false"), what, "of true and false", word)
        return word == "true"
    if isinstance(current, str):
        return word
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    require(math.isfinite(number), what, f"of numbers ({FORMS})", word)
    if isinstance(current, int):
        require(number == int(number), what, "of whole numbers", word)
        return int(number)
    return number


def applied(config: TrainConfig, values: Mapping[str, Value]) -> TrainConfig:
    """The settings with some of them replaced, by dotted name.

    Raises:
        ValueError: where the config refuses a value, in its words.
    """
    changed = to_dict(config)
    for name, value in values.items():
        *path, last = name.split(".")
        group = changed
        for step in path:
            group = group[step]
        sizes = group[last]
        group[last] = dict.fromkeys(sizes, value) if isinstance(sizes, dict) else value
    return from_dict(TrainConfig, changed)


def setting_of(config: TrainConfig, name: str) -> Any:
    """The value of a setting, by dotted name; of a group of alike ones, the one they all have.

    Raises:
        ValueError: where there is no such setting.
    """
    value: Any = to_dict(config)
    for step in name.split("."):
        require(isinstance(value, Mapping) and step in value, "space", "of a setting", name)
        value = value[step]
    return value


def own_value(config: TrainConfig, name: str) -> Any:
    """As `setting_of`, but of four sizes the one that they all have, or None."""
    value = setting_of(config, name)
    if isinstance(value, Mapping):
        return next(iter(value.values())) if len(set(value.values())) == 1 else None
    return value


def read_spaces(
    given: Mapping[str, Sequence[str]], config: TrainConfig, phases: Sequence[PhaseName]
) -> tuple[Space, ...]:
    """Reads all spaces and checks each value and combination that can be.

    Args:
        given: words, by dotted name of a setting.
        config: the settings that trials start from.
        phases: that trials train.

    Raises:
        ValueError: naming the setting, and where there is no space.
    """
    require(len(given) > 0, "space", "given for one setting or more", "none")
    spaces = []
    for name, words in given.items():
        current = setting_of(config, name)
        _require_searchable(name, current)
        reason = why_unused(name, config, phases)
        if reason:
            raise ValueError(f"space.{name} has no effect: {reason}")
        spaces.append(parse_space(name, words, current))
    names = [space.name for space in spaces]
    for one, other in itertools.permutations(names, 2):
        require(not other.startswith(f"{one}."), f"space.{one}", f"given without {other}", "both")
    for space in spaces:
        for value in itertools.islice(space.every or space.ends, MOST_CHECKED):
            _require_valid(config, {space.name: value}, space)
    corners = itertools.product(*(space.ends for space in spaces))
    for corner in itertools.islice(corners, MOST_CHECKED):
        _require_valid(config, dict(zip(names, corner, strict=True)))
    return tuple(spaces)


def used_spaces(
    given: Mapping[str, Sequence[str]], config: TrainConfig, phases: Sequence[PhaseName]
) -> dict[str, Sequence[str]]:
    """Those that would change anything; a rate of 0 is left, as it freezes a network."""
    return {
        name: words
        for name, words in given.items()
        if setting_of(config, name) and not why_unused(name, config, phases)
    }


def _require_searchable(name: str, current: object) -> None:
    for other, reason in NOT_SEARCHED.items():
        if name.startswith(other):
            raise ValueError(f"space.{name} can't be searched: {reason}")
    sizes = isinstance(current, Mapping) and set(current) == set(FINE_NETWORKS)
    require(
        sizes or isinstance(current, int | float | str),
        f"space.{name}",
        "of one setting",
        f"a group: {', '.join(current) if isinstance(current, Mapping) else current}",
    )


def why_unused(name: str, config: TrainConfig, phases: Sequence[PhaseName]) -> str:
    """Why a search of a setting would change nothing; empty where it would."""
    group = max((n for n in USED_BY if f"{name}.".startswith(f"{n}.")), key=len, default=None)
    used_by = USED_BY[group] if group else tuple(phases)
    if not set(used_by) & set(phases):
        return f"sweep.phases is {' '.join(phases)}, and it has one in {', '.join(used_by)}"
    if name in PAPERS_OPERATIONS and not config.augment.operations:
        return "augment.operations is off"
    part = name.rpartition(".")[2]
    if set(phases) == {"fine"} and part in FINE_NETWORKS and part not in config.fine.networks:
        return f"fine.networks is {' '.join(config.fine.networks)}"
    return ""


def _require_valid(config: TrainConfig, values: Values, space: Space | None = None) -> None:
    try:
        applied(config, values)
    except ValueError as error:
        given = ", ".join(f"{name} = {value}" for name, value in values.items())
        is_range = space is not None and space.kind != "values"
        instead = "; give the values, or steps LOW HIGH STEP" if is_range else ""
        raise ValueError(f"space: {given} can't be tried: {error}{instead}") from error
