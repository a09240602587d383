"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

SECONDS_PER_LINE: Final = 10.0
"""Time between two lines."""


def progress(
    done: Iterable[T],
    total: int,
    unit: str,
    count: Callable[[T], int] = lambda _: 1,
    was_there: Callable[[T], bool] = lambda _: False,
) -> Iterator[T]:
    """Yields results as they come; shows on stderr their number, their rate and the time left.

    Args:
        done: the results.
        total: number of units in all.
        unit: the unit's name, in the singular.
        count: tells the number of units that a result stands for.
        was_there: tells whether a result is an earlier run's. It counts as done, but not for the
            rate, nor does the time until the first that is not.
    """
    counted = ((item, count(item), was_there(item)) for item in done)
    yield from (_show_bar if sys.stderr.isatty() else _show_lines)(counted, total, unit)


def _show_bar(counted: Iterable[tuple[T, int, bool]], total: int, unit: str) -> Iterator[T]:
    from tqdm import tqdm

    # Not smoothed: that takes in what was there.
    with tqdm(total=total, unit=unit, smoothing=0, miniters=1) as bar:
        for item, num, was_there in counted:
            bar.initial += num * was_there
            bar.update(num)
            if bar.n == bar.initial:
                bar.start_t = bar.last_print_t
            yield item


def _show_lines(counted: Iterable[tuple[T, int, bool]], total: int, unit: str) -> Iterator[T]:
    started = printed = time.monotonic()
    num_done = num_new = 0
    for item, num, was_there in counted:
        num_done += num
        num_new += num * (not was_there)
        now = time.monotonic()
        if not num_new:
            started = now
        if num_done >= total or now - printed >= SECONDS_PER_LINE:
            printed = now
            pace = "done by an earlier run"
            if num_new:
                rate = num_new / max(now - started, 1e-9)
                pace = f"{rate:.1f} a second, {max(0, total - num_done) / rate:.0f} s left"
            print(f"{num_done} of {total} {unit}s, {pace}", file=sys.stderr, flush=True)
        yield item
