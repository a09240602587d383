"""How far long work is: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

SECONDS_A_LINE: Final = 10.0


def _one(_: object) -> int:
    return 1


def progress(
    done: Iterable[T], total: int, unit: str, count: Callable[[T], int] = _one
) -> Iterator[T]:
    """Passes on what is done and shows, on stderr, how much that is, its rate, and the time left.

    Args:
        done: results, as they come.
        total: of units.
        unit: what is counted, in the singular.
        count: units that a result stands for.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, unit=unit) as bar:
            for item in done:
                bar.update(count(item))
                yield item
        return
    started = said = time.monotonic()
    num = 0
    for item in done:
        num += count(item)
        now = time.monotonic()
        if num >= total or now - said >= SECONDS_A_LINE:
            said = now
            rate = num / max(now - started, 1e-9)
            left = max(0, total - num) / rate
            line = f"{num} of {total} {unit}s, {rate:.1f} a second, {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)
        yield item
