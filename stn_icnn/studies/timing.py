"""Times pieces of work in turn, so that what else the machine does hits all of them alike."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Final, TypeVar

import torch

Key = TypeVar("Key", bound=Hashable)
Work = Callable[[], object]

LEAST_S: Final = 0.3
"""Work that takes less is called several times a round, until it has taken about as long."""


def seconds(work: Work) -> float:
    """Returns the wall seconds of one call, until the GPU, if there is one, has done it."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def time_in_turn(works: Mapping[Key, Work], rounds: int) -> dict[Key, list[float]]:
    """Times pieces of work one after another, in every other round in the opposite order.

    Each is called twice beforehand: once to warm up, and once to see how many calls make a round.

    Args:
        works: the pieces of work, by name.
        rounds: how often each is timed.

    Returns:
        By name, the seconds of a call, one value for each round.
    """
    calls = {}
    for name, work in works.items():
        work()
        calls[name] = max(1, round(LEAST_S / seconds(work)))
    taken: dict[Key, list[float]] = {name: [] for name in works}
    for i in range(rounds):
        for name in list(works)[:: 1 if i % 2 == 0 else -1]:
            total = sum(seconds(works[name]) for _ in range(calls[name]))
            taken[name].append(total / calls[name])
    return taken
