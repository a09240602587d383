"""What long work says of itself where there is no terminal."""

import re
from collections.abc import Iterator

import pytest

from sharding import progress


def test_a_line_each_ten_seconds_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)

    def shards_of_4_s() -> Iterator[int]:
        nonlocal now
        for _ in range(7):
            now += 4
            yield 8

    assert list(progress.progress(shards_of_4_s(), 56, "image", count=int)) == [8] * 7
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "24 of 56 images, 2.0 a second, 16 s left",
        "48 of 56 images, 2.0 a second, 4 s left",
        "56 of 56 images, 2.0 a second, 0 s left",
    ]
    assert not any(re.search("[\r\x1b]", line) for line in lines)
