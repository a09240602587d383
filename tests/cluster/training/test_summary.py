"""What a run's page tells of its training."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.training.run_record import RunRecord
from cluster.training.setup import Training
from cluster.training.summary import BaseSettings, summarise_training
from stn_icnn.config import PRESETS, TrainConfig
from stn_icnn.storage import Folder


def training_of(folder: Path, config: TrainConfig, parent: str | None = None) -> Training:
    """A training that has finished a phase, whose checkpoints have been removed since."""
    record = RunRecord.open(Folder(folder), config, "abc", parent_sha256=parent)
    record.add_machine("coarse", "a CPU, fp32")
    record.mark_finished("coarse")
    parts: dict[str, Any] = {"record": record, "config": config, "num_images": 5}
    return cast(Training, SimpleNamespace(**parts))


def test_settings_that_differ_from_the_preset_are_told_with_both_values(tmp_path: Path) -> None:
    config = PRESETS["helen"]()
    config = replace(config, optim=replace(config.optim, lr_fine=0.5), seed=3)
    summary = summarise_training(training_of(tmp_path, config), BaseSettings.of_preset("helen"))
    assert summary.changed == {"optim.lr_fine": (0.5, 0.01), "seed": (3, 0)}
    assert (summary.base, summary.kind, summary.num_images) == ("the preset helen", "training", 5)


def test_without_checkpoints_there_is_a_report_without_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = training_of(tmp_path, TrainConfig(), parent="123")
    summary = summarise_training(training, BaseSettings.of_preset("my-config"))
    assert (summary.history, summary.minutes) == ({}, {})
    assert summary.machines == {"coarse": ["a CPU, fp32"]}
    assert (summary.base, summary.kind) == ("the defaults", "fine-tuning")
    assert "coarse: the report has no curves of it" in capsys.readouterr().out
