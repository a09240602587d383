"""A run's record: the same command goes on, another one is refused by the setting's name."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.run_record import RunRecord
from stn_icnn.config import TrainConfig


def test_the_same_run_is_taken_up_where_it_stopped(tmp_path: Path, tiny_config: TrainConfig):
    record = RunRecord.open(str(tmp_path), tiny_config, "abc")
    assert not record.has_finished("coarse")
    record.finish("coarse")
    again = RunRecord.open(str(tmp_path), tiny_config, "abc")
    assert again.has_finished("coarse")
    assert not again.has_finished("localizer")
    again.finish("localizer")
    assert RunRecord.open(str(tmp_path), tiny_config, "abc").has_finished("coarse")


def test_another_learning_rate_is_refused_by_name(tmp_path: Path, tiny_config: TrainConfig):
    RunRecord.open(str(tmp_path), tiny_config, "abc").finish("coarse")
    other = replace(tiny_config, optim=replace(tiny_config.optim, lr_fine=0.125), seed=7)
    with pytest.raises(ValueError, match=r"optim\.lr_fine: 0\.125, was 0\.01") as error:
        RunRecord.open(str(tmp_path), other, "abc")
    assert "seed: 7, was 0" in str(error.value)
    assert "--run-name" in str(error.value)
    assert "lr_coarse" not in str(error.value)
    assert RunRecord.open(str(tmp_path), tiny_config, "abc").has_finished("coarse")


def test_other_data_is_refused(tmp_path: Path, tiny_config: TrainConfig):
    RunRecord.open(str(tmp_path), tiny_config, "abc")
    with pytest.raises(ValueError, match=r"data_fingerprint: xyz, was abc"):
        RunRecord.open(str(tmp_path), tiny_config, "xyz")


def test_runs_of_other_names_know_nothing_of_each_other(tmp_path: Path, tiny_config: TrainConfig):
    RunRecord.open(str(tmp_path / "one"), tiny_config, "abc").finish("coarse")
    other = RunRecord.open(str(tmp_path / "two"), replace(tiny_config, seed=1), "abc")
    assert not other.has_finished("coarse")
