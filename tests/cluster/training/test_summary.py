"""What a run's page tells of its training."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.training.base_settings import BaseSettings, preset_in_words
from cluster.training.run_record import RunRecord
from cluster.training.setup import Training
from cluster.training.summary import summarise_training
from stn_icnn.config import TrainConfig
from stn_icnn.presets import PRESETS
from stn_icnn.storage import Folder


def training_of(
    folder: Path, config: TrainConfig, base: BaseSettings, parent: str | None = None
) -> Training:
    """A training that has finished a phase, whose checkpoints have been removed since."""
    record = RunRecord.open(Folder(folder), config, "abc", parent_sha256=parent)
    record.add_machine("coarse", "a CPU, fp32")
    record.mark_finished("coarse")
    parts: dict[str, Any] = {"record": record, "config": config, "base": base, "num_images": 5}
    return cast(Training, SimpleNamespace(**parts))


def test_settings_that_differ_from_the_preset_are_told_with_both_values(tmp_path: Path) -> None:
    config = PRESETS["helen"]()
    config = replace(config, optim=replace(config.optim, lr_fine=0.5), seed=3)
    summary = summarise_training(training_of(tmp_path, config, BaseSettings.of_preset("helen")))
    assert summary.changed == {"optim.lr_fine": (0.5, 0.01), "seed": (3, 0)}
    assert (summary.base, summary.kind, summary.num_images) == ("the preset helen", "training", 5)


def test_without_checkpoints_there_is_a_report_without_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = BaseSettings.of_preset("settings of demo.json")
    summary = summarise_training(training_of(tmp_path, TrainConfig(), base, parent="123"))
    assert (summary.history, summary.minutes, summary.total_minutes) == ({}, {}, None)
    assert summary.machines == {"coarse": ["a CPU, fp32"]}
    assert (summary.base, summary.kind) == ("the defaults", "fine-tuning")
    assert "coarse: the report has no curves of it" in capsys.readouterr().out


def test_settings_of_a_file_are_compared_with_the_defaults_whatever_it_is_called() -> None:
    base = BaseSettings.of_preset("settings of demo.json")
    assert base == BaseSettings("the defaults", TrainConfig())
    assert preset_in_words("settings of demo.json") == "settings of demo.json"
    assert preset_in_words("demo") == "the preset demo"


def test_a_fine_tuning_is_compared_with_its_parent() -> None:
    parent = PRESETS["demo"]()
    base = BaseSettings.of_model("models/mine", parent)
    assert base.name == "the model models/mine"
    assert base.changed_by(replace(parent, seed=3)) == {"seed": (3, parent.seed)}
