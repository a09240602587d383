"""Search spaces: an Optuna distribution for each searched setting, by the setting's dotted name.

They are read from text, and written as text.
"""

import math
from collections.abc import Mapping, Sequence
from typing import cast

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from stn_icnn.checks import require

Value = float | int | str | bool
Values = dict[str, Value]
"""Values of searched settings, by dotted name."""
Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
SearchSpace = Mapping[str, Distribution]
"""What is searched, by the settings' dotted names."""

KINDS = {"log": 2, "uniform": 2, "steps": 3}
"""The words that begin a range, and how many numbers follow each."""
FORMS = "log LOW HIGH, uniform LOW HIGH, steps LOW HIGH STEP, or two or more values"
MAX_STEPS = 1000
"""Values of a range of steps, at most."""


def split_spaces(texts: Sequence[str]) -> dict[str, list[str]]:
    """Splits spaces that are written `NAME=SPACE`.

    Args:
        texts: as on the command line, where a name may be written with dashes.

    Returns:
        The words of each space, by the dotted name of its setting.

    Raises:
        ValueError: for a text without `=`, and for a setting that is given twice.
    """
    spaces: dict[str, list[str]] = {}
    for text in texts:
        name, equals_sign, words = text.partition("=")
        require(bool(equals_sign), "space", "NAME=SPACE", repr(text))
        name = name.strip().replace("-", "_")
        require(name not in spaces, "space", "of settings given once", name)
        spaces[name] = words.split()
    return spaces


def parse_space(name: str, words: Sequence[str], current: object) -> Distribution:
    """Reads the space of one setting.

    Args:
        name: dotted name of the setting.
        words: one of `FORMS`, split.
        current: the setting's value, whose type the values get; of four sizes, a mapping.

    Raises:
        ValueError: naming the setting, what is allowed and what was given.
    """
    what, given = f"space.{name}", " ".join(words) or "nothing"
    if isinstance(current, Mapping):
        current = next(iter(current.values()))
    if not words or words[0] not in KINDS:
        choices = tuple(_parse_value(what, word, current) for word in words)
        require(len(choices) >= 2, what, FORMS, given)
        require(len(set(choices)) == len(choices), what, "of values given once", given)
        return CategoricalDistribution(choices)
    require(is_number(current), what, "a list of values, as it is not a number", given)
    kind, *numbers = words
    require(len(numbers) == KINDS[kind], what, FORMS, given)
    low, high, *steps = (float(_parse_value(what, word, current)) for word in numbers)
    require(low < high, what, "a range with LOW under HIGH", given)
    step = steps[0] if steps else None
    if step is not None:
        require(step > 0, what, "a range with STEP over 0", given)
        num = int((high - low) / step + 1e-9) + 1
        require(2 <= num <= MAX_STEPS, what, f"of 2 to {MAX_STEPS} steps", f"{num} ({given})")
        high = round(low + (num - 1) * step, 12)
    is_log = kind == "log"
    require(not is_log or low > 0, what, "a log range with LOW over 0", given)
    if isinstance(current, int):
        return IntDistribution(int(low), int(high), log=is_log, step=int(step or 1))
    return FloatDistribution(low, high, log=is_log, step=step)


def _parse_value(what: str, word: str, current: object) -> Value:
    """Reads a word as a value of the type of another."""
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


def all_values(space: Distribution) -> Sequence[Value]:
    """Lists the values of a space; a continuous range has none to list."""
    if isinstance(space, CategoricalDistribution):
        return cast(tuple[Value, ...], space.choices)
    if isinstance(space, IntDistribution):
        return range(space.low, space.high + 1, space.step)
    if space.step is None:
        return ()
    num = round((space.high - space.low) / space.step) + 1
    return [round(space.low + i * space.step, 12) for i in range(num)]


def end_values(space: Distribution) -> Sequence[Value]:
    """Returns both ends of a range, or all values where they were listed."""
    if isinstance(space, CategoricalDistribution):
        return all_values(space)
    return space.low, space.high


def contains(space: Distribution, value: object) -> bool:
    """Returns whether a value lies in a space."""
    values = all_values(space)
    if values or isinstance(space, CategoricalDistribution):
        return value in values
    return isinstance(value, int | float) and space.low <= value <= space.high


def is_range(space: Distribution) -> bool:
    """Returns whether a space is a `log` or `uniform` range."""
    if isinstance(space, CategoricalDistribution):
        return False
    return space.step == (1 if isinstance(space, IntDistribution) else None)


def is_number(value: object) -> bool:
    """Returns whether a value is one that a range can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def format_value(value: object) -> str:
    """Writes a value as reports and logs have it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def format_space(space: Distribution) -> str:
    """Writes a space in the form that `parse_space` reads."""
    if isinstance(space, CategoricalDistribution):
        return _listed(space)
    ends = f"{_exactly(space.low)} {_exactly(space.high)}"
    if space.log:
        return f"log {ends}"
    return f"uniform {ends}" if is_range(space) else f"steps {ends} {_exactly(space.step)}"


def stands_for(text: str, space: Distribution) -> bool:
    """Returns whether a stored text stands for a space; steps were once stored as their values."""
    if text == format_space(space):
        return True
    return 0 < len(all_values(space)) <= MAX_STEPS and text == _listed(space)


def _listed(space: Distribution) -> str:
    return " ".join(map(_exactly, all_values(space)))


def _exactly(value: object) -> str:
    """Writes a value in few characters that read as the same value."""
    short = format_value(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)
