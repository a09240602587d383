"""A store that is there, a job tracked in it, and a clock for the outbox."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.tracking import outbox
from cluster.tracking.tracker import Run, Tracker


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> str:
    return new_store(tmp_path_factory.mktemp("tracking"))


@pytest.fixture
def tracker(uri: str, tmp_path: Path) -> Tracker:
    return Tracker.connect(uri, outbox_folder=tmp_path / "outbox")


@pytest.fixture
def job(tracker: Tracker, request: pytest.FixtureRequest) -> Run:
    return tracker.start_or_resume_run(request.node.name)


@pytest.fixture
def clock(monkeypatch):
    """The outbox's clock, which stands still until `clock.now` is set."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(outbox, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock
