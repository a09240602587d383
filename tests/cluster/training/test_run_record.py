"""A run's record: the same command goes on, another one is refused by the setting's name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.training.run_record import RunRecord
from stn_icnn.config import FineConfig, TrainConfig
from stn_icnn.presets import PRESETS
from stn_icnn.storage import Folder


def test_the_same_run_is_resumed_where_it_stopped(tmp_path: Path, tiny_config: TrainConfig):
    record = RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    assert not record.has_finished("coarse")
    record.mark_finished("coarse")
    again = RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    assert again.has_finished("coarse")
    assert not again.has_finished("localizer")
    again.mark_finished("localizer")
    assert RunRecord.open(Folder(tmp_path), tiny_config, "abc").has_finished("coarse")


def test_what_a_phase_was_trained_on_is_kept_over_restarts(
    tmp_path: Path, tiny_config: TrainConfig
):
    record = RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    assert record.computed_on("coarse") == []
    record.add_machine("coarse", "a CPU, fp32")
    again = RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    again.add_machine("coarse", "a GPU, bf16")
    again.mark_finished("coarse")
    last = RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    assert last.computed_on("coarse") == ["a CPU, fp32", "a GPU, bf16"]
    assert last.computed_on("localizer") == []


def test_from_which_step_how_many_workers_trained_is_kept_over_restarts(
    tmp_path: Path, tiny_config: TrainConfig
):
    record = RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    assert record.workers("coarse") == []
    record.add_workers("coarse", 0, 3)
    record.add_workers("coarse", 40, 2)
    again = RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    again.add_workers("coarse", 60, 1)
    again.add_workers("coarse", 50, 3)  # step 60 is trained again, by others
    last = RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    assert last.workers("coarse") == [(0, 3), (40, 2), (50, 3)]
    assert last.workers("localizer") == []


def test_another_learning_rate_is_refused_by_name(tmp_path: Path, tiny_config: TrainConfig):
    RunRecord.open(Folder(tmp_path), tiny_config, "abc").mark_finished("coarse")
    other = replace(tiny_config, optim=replace(tiny_config.optim, lr_fine=0.125), seed=7)
    with pytest.raises(ValueError, match=r"optim\.lr_fine: 0\.125, was 0\.01") as error:
        RunRecord.open(Folder(tmp_path), other, "abc")
    assert "seed: 7, was 0" in str(error.value)
    assert "--run-name" in str(error.value)
    assert "lr_coarse" not in str(error.value)
    assert RunRecord.open(Folder(tmp_path), tiny_config, "abc").has_finished("coarse")


def test_a_run_of_before_a_setting_was_there_goes_on_with_its_default(
    tmp_path: Path, tiny_config: TrainConfig
):
    RunRecord.open(Folder(tmp_path), tiny_config, "abc").mark_finished("coarse")
    file = tmp_path / "run.json"
    content = json.loads(file.read_text())
    del content["config"]["fine"], content["config"]["optim"]["epochs_fine"]
    del content["num_images"], content["parent_sha256"]
    file.write_text(json.dumps(content))
    assert RunRecord.open(Folder(tmp_path), tiny_config, "abc").has_finished("coarse")
    other = replace(tiny_config, fine=FineConfig(window_error=0.02))
    with pytest.raises(ValueError, match=r"fine\.window_error: 0\.02, was 0\.01"):
        RunRecord.open(Folder(tmp_path), other, "abc")


def test_a_run_of_before_statistics_were_kept_goes_on_as_it_was_begun(
    tmp_path: Path, tiny_config: TrainConfig
):
    RunRecord.open(Folder(tmp_path), tiny_config, "abc").mark_finished("coarse")
    file = tmp_path / "run.json"
    content = json.loads(file.read_text())
    del content["config"]["optim"]["freeze_pretrained_stats"]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"freeze_pretrained_stats: True, was False"):
        RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    as_then = replace(tiny_config, optim=replace(tiny_config.optim, freeze_pretrained_stats=False))
    assert RunRecord.open(Folder(tmp_path), as_then, "abc").has_finished("coarse")


def test_other_data_is_refused(tmp_path: Path, tiny_config: TrainConfig):
    RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    with pytest.raises(ValueError, match=r"data_fingerprint: xyz, was abc"):
        RunRecord.open(Folder(tmp_path), tiny_config, "xyz")


def test_other_images_or_another_parent_are_refused(tmp_path: Path, tiny_config: TrainConfig):
    RunRecord.open(Folder(tmp_path), tiny_config, "abc", 100, "aaaa")
    assert (
        RunRecord.open(Folder(tmp_path), tiny_config, "abc", 100, "aaaa").content["finished"] == []
    )
    with pytest.raises(ValueError, match=r"\(num_images: 400, was 100\)"):
        RunRecord.open(Folder(tmp_path), tiny_config, "abc", 400, "aaaa")
    with pytest.raises(ValueError, match=r"\(parent_sha256: bbbb, was aaaa\)"):
        RunRecord.open(Folder(tmp_path), tiny_config, "abc", 100, "bbbb")


def test_an_entry_is_there_when_the_run_goes_on(tmp_path: Path, tiny_config: TrainConfig):
    record = RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    record.write_entry("scratch", {"epochs": {"coarse": 3}})
    again = RunRecord.open(Folder(tmp_path), tiny_config, "abc")
    assert again.content["scratch"] == {"epochs": {"coarse": 3}}


def test_runs_of_other_names_know_nothing_of_each_other(tmp_path: Path, tiny_config: TrainConfig):
    RunRecord.open(Folder(tmp_path / "one"), tiny_config, "abc").mark_finished("coarse")
    other = RunRecord.open(Folder(tmp_path / "two"), replace(tiny_config, seed=1), "abc")
    assert not other.has_finished("coarse")


STORED_BY_0_1 = """
{"config": {"model": {"coarse_px": 64, "kernel_size": 3, "window_px": {"brow": 65, "eye": 57,
"nose": 97, "mouth": 97}, "patch_px": {"brow": 37, "eye": 37, "nose": 37, "mouth": 49},
"learn_scale": true, "cropper": "localizer", "canvas_px": 1024}, "augment": {"copies": 1,
"operations": false, "rotation_deg": 15.0, "shift": 0.2, "scale_min": 0.8, "scale_max": 1.2,
"noise_std": 0.05, "mirror": 0.5, "colour": 0.0, "window_shift": 0.05, "window_scale": 0.0},
"optim": {"lr_coarse": 0.005, "lr_localizer": 0.002, "lr_coarse_end_to_end": 0.0001,
"lr_localizer_end_to_end": 0.0001, "lr_fine": 0.01, "epochs_coarse": 13, "epochs_localizer": 6,
"epochs_end_to_end": 11, "epochs_fine": 10, "global_batch": 8, "micro_batch": 0, "schedule":
"one_cycle", "halve_every_epochs": 5, "max_grad_norm": 0.0, "freeze_pretrained_stats": true,
"freeze_batch_stats": false}, "loss": {"coarse_weight": 1.0, "localizer_weight": 10.0}, "fine":
{"networks": ["brow", "eye", "nose", "mouth"], "window_error": 0.01}, "seed": 0, "precision":
"auto", "channels_last": true, "validate_every_epochs": 8, "checkpoint_every_steps": 200},
"data_fingerprint": "abc", "num_images": null, "parent_sha256": null, "kind": null, "finished":
["coarse", "localizer"], "computed_on": {"coarse": ["a CPU, fp32"]}}
"""
"""The record of a demo run as version 0.1.0 wrote it."""


def test_a_run_of_an_earlier_version_is_resumed(tmp_path: Path):
    config = replace(PRESETS["demo"](), validate_every_epochs=8)  # as the preset was
    (tmp_path / "run.json").write_text(STORED_BY_0_1)
    record = RunRecord.open(Folder(tmp_path), config, "abc")
    assert record.has_finished("localizer")
    assert not record.has_finished("end_to_end")
    assert record.computed_on("coarse") == ["a CPU, fp32"]
    other = replace(config.model, window_px={**config.model.window_px, "eye": 59})
    with pytest.raises(ValueError, match=r"config\.model\.window_px\.eye: 59, was 57"):
        RunRecord.open(Folder(tmp_path), replace(config, model=other), "abc")
