"""When a phase is validated, and how far its windows lie off."""

from dataclasses import replace

import pytest
import torch

from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.data.plan import Request
from stn_icnn.training.loop import (
    run_phase,
)
from stn_icnn.training.phases import PHASES, PhaseName
from stn_icnn.training.validation import validate
from tests.phase_runs import epochs, fresh, phase_run


@pytest.mark.slow
def test_validation_every_few_epochs_and_at_the_end(tiny_config: TrainConfig, tiny_faces) -> None:
    config = replace(epochs(tiny_config, 3), validate_every_epochs=2)
    context = LocalContext()
    run_phase(phase_run("localizer", config, tiny_faces, context), fresh(config))
    assert ["val/loss" in report.metrics for report in context.reports] == [False, True, True]


@pytest.mark.parametrize("phase", ["localizer", "end_to_end", "baseline"])
def test_validation_says_how_far_windows_lie_off(
    phase: PhaseName, tiny_config: TrainConfig, tiny_faces
) -> None:
    config = PHASES[phase].settings(tiny_config)
    run = phase_run(phase, config, tiny_faces, LocalContext())
    model = fresh(config).eval()
    metrics = validate(model, run.phase, config, run.val_faces, run.context)
    batch = run.val_faces.__getitems__([Request(i) for i in range(len(run.val_faces))])
    assert batch.centres is not None
    with torch.no_grad():
        locations = model.locate(model.label_coarsely(batch))
    off = locations[..., :2] * batch.sizes[:, None] - batch.centres
    assert metrics["val/window_error_px"] == pytest.approx(off.norm(dim=-1).mean().item(), rel=1e-3)


def test_without_windows_there_is_no_error_of_them(tiny_config: TrainConfig, tiny_faces) -> None:
    run = phase_run("coarse", tiny_config, tiny_faces, LocalContext())
    model = fresh(tiny_config)
    metrics = validate(model, run.phase, tiny_config, run.val_faces, run.context)
    assert "val/f1_overall" in metrics
    assert "val/window_error_px" not in metrics
