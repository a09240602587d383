"""Numbers that JSON does not have, NaN and infinities, replaced in plain values."""

import math
from collections.abc import Callable, Mapping
from typing import Any


def replace_nonfinite(value: Any, stand_in: Callable[[float], object]) -> Any:
    """Returns plain values with something else for the numbers that JSON does not have.

    Args:
        value: mappings, lists and tuples, nested or not, of what JSON has, and of floats.
        stand_in: returns what stands for such a number.
    """
    if isinstance(value, Mapping):
        return {name: replace_nonfinite(one, stand_in) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(one, stand_in) for one in value]
    return stand_in(value) if isinstance(value, float) and not math.isfinite(value) else value
