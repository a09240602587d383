"""The learning rates over a phase."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.training.loop import (
    run_phase,
)
from stn_icnn.training.schedule import lr_factor
from tests.phase_runs import Stop, StoppingContext, fresh, phase_run


@pytest.mark.slow
def test_the_schedule_counts_steps_from_the_phases_start(
    four_steps: TrainConfig, tiny_faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a phase that has stopped in its second epoch."""
    steps = []
    monkeypatch.setattr(
        "stn_icnn.training.loop.lr_factor", lambda _, step, *__: steps.append(step) or 1.0
    )
    stopped = StoppingContext(tmp_path, num_reports=6)
    with pytest.raises(Stop):
        run_phase(phase_run("coarse", four_steps, tiny_faces, stopped), fresh(four_steps))
    run_phase(
        phase_run("coarse", four_steps, tiny_faces, LocalContext(tmp_path)), fresh(four_steps)
    )
    assert steps == list(range(8))


def test_halving_schedule_is_the_papers(tiny_config: TrainConfig) -> None:
    optim = replace(tiny_config.optim, schedule="halving", halve_every_epochs=5)
    factors = [lr_factor(optim, epoch * 7, 7, 25) for epoch in range(25)]
    assert factors == [0.5 ** (epoch // 5) for epoch in range(25)]


def test_one_cycle_rises_then_falls_to_nothing(tiny_config: TrainConfig) -> None:
    optim = replace(tiny_config.optim, schedule="one_cycle")
    factors = [lr_factor(optim, step, 10, 10) for step in range(100)]
    peak = factors.index(max(factors))
    assert 5 <= peak <= 12
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[-1] < 1e-3
    assert math.isclose(max(factors), 1, abs_tol=0.01)
