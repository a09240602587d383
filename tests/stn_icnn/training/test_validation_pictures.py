"""Pictures of validation faces: the same faces each time, at no cost to the training."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.training.loop import (
    run_phase,
)
from stn_icnn.training.phases import PhaseName
from stn_icnn.training.state import STATE_FILE
from tests.phase_runs import (
    Stop,
    StoppingContext,
    epochs,
    fresh,
    phase_run,
    with_finder,
)

ROWS = {"coarse": 2, "localizer": 1, "frozen": 2, "end_to_end": 2}
"""Photograph and windows; prediction and truth, where a phase labels."""


@pytest.mark.slow
@pytest.mark.parametrize("phase", ROWS)
def test_pictures_of_the_same_faces_come_with_each_validation_and_change_no_bit(
    phase: PhaseName, tiny_config: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    config = replace(epochs(tiny_config, 3), validate_every_epochs=2)
    plain, pictured = LocalContext(tmp_path / "plain"), LocalContext(tmp_path / "pictured")
    run = phase_run(phase, config, tiny_faces, plain)
    run_phase(run, fresh(config))
    run_phase(replace(run, context=pictured, num_pictured=2), fresh(config))
    assert not any(report.pictures for report in plain.reports)
    pictures = [picture for report in pictured.reports for picture in report.pictures]
    assert [(one.name, one.epoch) for one in pictures] == [
        (name, epoch) for epoch in (0, 2, 3) for name in ("faces/1", "faces/2")
    ]
    for picture in pictures:
        image = np.asarray(Image.open(io.BytesIO(picture.webp)).convert("RGB"), dtype=int)
        height, width = image.shape[0] / ROWS[phase], (image.shape[1] - 6) // 2
        assert max(height - 20, width) == 192, "a panel below its caption"
        photo, beside = image[20:180, 8:100], image[20:180, width + 14 : width + 106]
        if phase == "coarse":
            assert beside.min() > 240, "it finds no windows"
        else:
            assert 0.005 < (abs(photo - beside).max(axis=2) > 60).mean() < 0.5, "lines are drawn"
    one, other = (
        torch.load(folder / STATE_FILE, weights_only=True)
        for folder in (plain.folder, pictured.folder)
    )
    assert all(torch.equal(one["weights"][name], other["weights"][name]) for name in one["weights"])
    key = "val/loss"
    assert [e.get(key) for e in one["history"]] == [e.get(key) for e in other["history"]]


@pytest.mark.slow
def test_a_stop_before_the_second_report_repeats_no_picture(
    four_steps: TrainConfig, tiny_faces, tmp_path: Path
) -> None:
    stopped = StoppingContext(tmp_path, num_reports=1)
    run = replace(phase_run("coarse", four_steps, tiny_faces, stopped), num_pictured=1)
    with pytest.raises(Stop):
        run_phase(run, fresh(four_steps))
    assert [one.epoch for one in stopped.reports[0].pictures] == [0]
    resumed = LocalContext(tmp_path)
    run_phase(replace(run, context=resumed), fresh(four_steps))
    assert [one.epoch for report in resumed.reports for one in report.pictures] == [1, 2]


@pytest.mark.slow
def test_the_finder_s_pictures_are_scenes_with_the_faces_that_it_finds(
    tiny_config: TrainConfig, tiny_faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.float32([[32, 32, 40, 1, 0]])  # in the middle of scenes of 64 px
    monkeypatch.setattr(
        "stn_icnn.training.objectives.found_frames", lambda output: [frame] * len(output.votes)
    )
    config, context = epochs(with_finder(tiny_config), 1), LocalContext()
    run = replace(phase_run("finder", config, tiny_faces, context), num_pictured=2)
    run_phase(run, fresh(config))
    pictures = [picture for report in context.reports for picture in report.pictures]
    assert [(one.name, one.epoch) for one in pictures] == [
        (name, epoch) for epoch in (0, 1) for name in ("faces/1", "faces/2")
    ]
    images = [Image.open(io.BytesIO(one.webp)).convert("RGB") for one in pictures]
    for image in images:
        assert image.size[1] == 2 * (20 + 192)
        pixels = np.asarray(image, dtype=int)
        scene, found = pixels[20:212, :192], pixels[20:212, -192:]
        drawn = abs(scene - found).max(axis=2) > 60
        assert 0.005 < drawn.mean() < 0.1, "lines are drawn"
        assert drawn[45:147, 45:147].mean() < 0.001, "about the face"
    before, after = (np.asarray(images[i], dtype=int)[20:212, :192] for i in (0, 2))
    assert abs(before - after).max() < 16, "the same scene after each epoch"
