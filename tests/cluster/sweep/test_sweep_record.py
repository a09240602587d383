"""A sweep's record goes on, also that of an earlier version, or is refused with the reason."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cluster.sweep.config import SweepConfig
from cluster.sweep.proposals import propose
from cluster.sweep.searched_settings import read_search_space
from cluster.sweep.spaces import SearchSpace
from cluster.sweep.sweep_record import SweepRecord, Trial
from stn_icnn.config import TrainConfig
from stn_icnn.config_dict import from_stored
from stn_icnn.storage import Folder

STORED_SWEEP = """{
 "config": {
  "model": {
   "coarse_px": 32,
   "kernel_size": 3,
   "window_px": {"brow": 33, "eye": 33, "nose": 41, "mouth": 49},
   "patch_px": {"brow": 17, "eye": 17, "nose": 21, "mouth": 25},
   "learn_scale": true,
   "cropper": "localizer",
   "canvas_px": 1024
  },
  "augment": {
   "copies": 1,
   "operations": true,
   "rotation_deg": 15.0,
   "shift": 0.2,
   "scale_min": 0.8,
   "scale_max": 1.2,
   "noise_std": 0.05,
   "mirror": 0.0,
   "colour": 0.0,
   "window_shift": 0.0,
   "window_scale": 0.0
  },
  "optim": {
   "lr_coarse": 0.0023,
   "lr_localizer": 0.0017,
   "lr_coarse_end_to_end": 0.0001,
   "lr_localizer_end_to_end": 0.0001,
   "lr_fine": 0.01,
   "epochs_coarse": 25,
   "epochs_localizer": 25,
   "epochs_end_to_end": 25,
   "epochs_fine": 3,
   "global_batch": 4,
   "micro_batch": 0,
   "schedule": "halving",
   "halve_every_epochs": 5,
   "max_grad_norm": 0.0,
   "freeze_pretrained_stats": true,
   "freeze_batch_stats": false
  },
  "loss": {"coarse_weight": 0.0, "localizer_weight": 0.0},
  "fine": {"networks": ["eye"], "window_error": 0.01},
  "seed": 0,
  "precision": "fp32",
  "channels_last": true,
  "validate_every_epochs": 1,
  "checkpoint_every_steps": 200
 },
 "sweep": {
  "phases": ["fine"],
  "search": "optuna",
  "scheduler": "none",
  "grace_epochs": 1,
  "reduction_factor": 3,
  "random_trials": 2,
  "search_seed": 0
 },
 "start_sha256": null,
 "space": {
  "model.patch_px.eye": "9 13 17",
  "optim.lr_fine": "log 0.001 0.1",
  "optim.global_batch": "uniform 3 4"
 },
 "seeds": 1,
 "num_workers": 1,
 "data_fingerprint": "45e2a74cce65490bf7db25b1128827861375dad18a1ad0d5ae8f4bf587aa8726"
}"""
STORED_TRIAL = """{
 "name": "trial-0002",
 "setting": 2,
 "repeat": 0,
 "seed": 0,
 "values": {
  "model.patch_px.eye": 17,
  "optim.lr_fine": 0.03143962829836337,
  "optim.global_batch": 4
 },
 "state": "running",
 "curve": {
  "1": 0.0
 },
 "error": null,
 "tracked": false
}"""
"""Written at commit 29fa23c by a driver that was then killed; some lines are joined here."""

SPACES = (
    "optim.lr_fine=log 1e-3 1e-1",
    "model.patch_px.eye=steps 9 17 4",
    "optim.global_batch=uniform 3 4",
)


@pytest.fixture
def stored(tmp_path: Path) -> Folder:
    (tmp_path / "trials").mkdir()
    (tmp_path / "sweep.json").write_text(STORED_SWEEP)
    (tmp_path / "trials" / "trial-0002.json").write_text(STORED_TRIAL)
    return Folder(tmp_path)


def config() -> TrainConfig:
    return from_stored(json.loads(STORED_SWEEP)["config"])


def content() -> dict[str, Any]:
    """Settings that the stored sweep was started with, as a driver of now has them."""
    given = json.loads(STORED_SWEEP)
    del given["space"]
    return given | {"config": json.loads(json.dumps(asdict(config())))}


def space_of(*texts: str) -> SearchSpace:
    return read_search_space(texts, (), config(), ("fine",))


def test_a_sweep_of_an_earlier_version_goes_on(stored: Folder) -> None:
    record = SweepRecord.open(stored, content(), space_of(*SPACES))
    values = {
        "model.patch_px.eye": 17,
        "optim.lr_fine": 0.03143962829836337,
        "optim.global_batch": 4,
    }
    trial = Trial("trial-0002", 2, 0, 0, values, "running", {1: 0.0})
    assert record.trials == [trial]
    assert record.content["space"] == json.loads(STORED_SWEEP)["space"]
    assert stored.read("sweep.json").decode() == STORED_SWEEP
    sweep = SweepConfig(random_trials=1)
    proposed = propose(sweep, record.space, config(), 3, [trial])
    assert list(proposed) == list(values)
    assert proposed != values

    trial.state = "finished"
    record.save(trial)
    assert SweepRecord.open(stored, content(), space_of(*SPACES)).trials == [trial]


def test_what_a_sweep_of_an_earlier_version_searched_otherwise_is_named(stored: Folder) -> None:
    with pytest.raises(ValueError, match=r"started with other settings") as error:
        SweepRecord.open(stored, content(), space_of("optim.lr_fine=log 1e-4 1e-1", *SPACES[1:]))
    assert "space.optim.lr_fine: log 0.0001 0.1, was log 0.001 0.1" in str(error.value)
    with pytest.raises(ValueError, match=r"space\.model\.patch_px\.eye: steps 9 13 4, was 9 13 17"):
        SweepRecord.open(
            stored, content(), space_of(SPACES[0], "model.patch_px.eye=steps 9 13 4", SPACES[2])
        )
    with pytest.raises(ValueError, match=r"space\.optim\.global_batch: None, was uniform 3 4"):
        SweepRecord.open(stored, content(), space_of(*SPACES[:2]))


def test_the_order_in_which_spaces_are_given_is_that_of_the_first_time(tmp_path: Path) -> None:
    """A grid's combinations are numbered by it: in another order some would be left out."""
    spaces = ("optim.global_batch=3 4", "model.patch_px.eye=9 13 17")
    grid = SweepConfig(search="grid")
    found = []
    for given in (spaces, spaces[::-1]):
        record = SweepRecord.open(Folder(tmp_path), content(), space_of(*given))
        assert list(record.space) == ["optim.global_batch", "model.patch_px.eye"]
        found.append([propose(grid, record.space, config(), i, []) for i in range(6)])
    assert found[0] == found[1]
