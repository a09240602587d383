"""What long work says of itself, on a terminal and elsewhere."""

import io
import re
import sys
from collections.abc import Callable, Iterator

import pytest
import tqdm.std

from stn_icnn import progress

Shards = Callable[..., Iterator[tuple[int, bool]]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> Shards:
    """shards(*runs): of each run (number, seconds, was there) so many shards, after so long each.

    Time stands still otherwise.
    """
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(tqdm.std, "time", lambda: now)

    def drawn(*runs: tuple[int, float, bool]) -> Iterator[tuple[int, bool]]:
        nonlocal now
        for number, seconds, was_there in runs:
            for _ in range(number):
                now += seconds
                yield 8, was_there

    return drawn


def show(shards: Iterator[tuple[int, bool]], total: int) -> None:
    """Each stands for eight images."""
    for _ in progress.progress(
        shards, total, "image", count=lambda shard: shard[0], was_there=lambda shard: shard[1]
    ):
        pass


def test_a_line_each_ten_seconds_and_one_at_the_end(shards: Shards, capsys: pytest.CaptureFixture):
    show(shards((7, 4, False)), 56)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "24 of 56 images, 2.0 a second, 16 s left",
        "48 of 56 images, 2.0 a second, 4 s left",
        "56 of 56 images, 2.0 a second, 0 s left",
    ]
    assert not any(re.search("[\r\x1b]", line) for line in lines)


def test_rate_is_of_what_this_run_does(shards: Shards, capsys: pytest.CaptureFixture):
    """What an earlier run has done is found fast, or slowly, and only then the work begins."""
    show(shards((100, 0.2, True), (2, 6, False), (1, 0, True), (2, 6, False)), 840)
    assert capsys.readouterr().err.splitlines() == [
        "400 of 840 images, done by an earlier run",
        "800 of 840 images, done by an earlier run",
        "816 of 840 images, 1.3 a second, 18 s left",
        "840 of 840 images, 1.3 a second, 0 s left",
    ]


def test_bar_on_a_terminal(shards: Shards, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    show(shards((100, 0.2, True), (2, 4, False), (1, 0, True)), 840)
    *_, last = sys.stderr.getvalue().strip().split("\r")
    assert "824/840" in last
    assert "[00:08<00:08,  2.00image/s]" in last
