"""Settings and a clock for phases that are trained in this process."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest

from stn_icnn.config import TrainConfig
from tests.phase_runs import epochs


@pytest.fixture
def four_steps(tiny_config: TrainConfig) -> TrainConfig:
    """Two epochs of four steps, with a checkpoint after each."""
    config = replace(epochs(tiny_config, 2), checkpoint_every_steps=1)
    return replace(config, optim=replace(config.optim, global_batch=2, schedule="one_cycle"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training loop's, which goes on by a millisecond each time that it is looked at."""
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(ticks) / 1000)
    monkeypatch.setattr("stn_icnn.training.loop.time", clock)
