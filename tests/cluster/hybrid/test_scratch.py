"""How long a training from scratch is, and what it goes on with: without Ray."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cluster.hybrid.scratch
from cluster.hybrid.scratch import (
    ScratchTraining,
    choose_epochs,
    open_scratch,
    require_same_scratch_settings,
)
from cluster.storage.datasets import ShardedData
from cluster.training.base_settings import BaseSettings
from cluster.training.phase_training import phase_task
from cluster.training.run_record import RunRecord
from cluster.training.setup import Training, require_batches, require_images
from cluster.training.worker import open_phase
from cluster.workers.allocation import WorkerAllocation
from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.storage import Folder

SHARE = WorkerAllocation(
    num_workers=2, cpus_per_worker=1, use_gpu=False, loader_processes=0, max_failures=0
)


@pytest.mark.parametrize(
    ("seconds", "proportions", "budget_s", "expected"),
    [
        ((2, 1, 10), (10, 3, 20), 223.0, (10, 3, 20)),
        ((2, 1, 10), (10, 3, 20), 2230.0, (100, 30, 200)),
        ((2, 1, 10), (10, 3, 20), 100.0, (4, 2, 9)),  # exactly: 4.5, 1.3, 9.0
        ((2, 1, 10), (10, 10, 20), 50.0, (3, 3, 4)),  # 2.17, 2.17, 4.35: 49 s, not 46
        ((2, 1, 10), (1, 1, 100), 101.0, (1, 1, 10)),  # the first two get their epoch
        ((2, 1, 10), (25, 25, 25), 13.5, (1, 1, 1)),
        ((2, 1, 10), (25, 25, 25), 5.0, (1, 1, 1)),  # not even one of each: they take longer
    ],
)
def test_whole_epochs_come_nearest_to_the_time(
    seconds: tuple[float, ...],
    proportions: tuple[int, ...],
    budget_s: float,
    expected: tuple[int, ...],
) -> None:
    phases = ("coarse", "localizer", "end_to_end")
    chosen = choose_epochs(
        dict(zip(phases, seconds, strict=True)),
        dict(zip(phases, proportions, strict=True)),
        budget_s,
    )
    assert tuple(chosen) == phases
    assert tuple(chosen.values()) == expected


@pytest.fixture
def fine_tuning(shards: Path, tiny_config: TrainConfig, tmp_path: Path) -> Training:
    """A training on five of eight images."""
    record = RunRecord.open(Folder(tmp_path / "run"), tiny_config, "abc", 5)
    data = ShardedData.open(str(shards))
    base = BaseSettings.of_preset("demo")
    return Training(tiny_config, data, record, SHARE, None, base, chosen_images=5)  # type: ignore[arg-type]


def timed(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float] | str) -> list[Any]:
    """What the workers are asked to time from now on; they say that it takes `seconds`."""
    asked: list[Any] = []

    class Result:
        return_value = seconds

    def run_on_workers(function: Any, task: Any, **_: Any) -> Result:
        asked.append(task)
        return Result()

    monkeypatch.setattr(cluster.hybrid.scratch, "run_on_workers", run_on_workers)
    return asked


def test_epochs_are_chosen_once_and_recorded(
    fine_tuning: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(
        fine_tuning.config, optim=replace(fine_tuning.config.optim, epochs_end_to_end=4)
    )
    asked = timed(monkeypatch, {"coarse": 1.0, "localizer": 1.0, "end_to_end": 5.0})
    scratch = ScratchTraining(fine_tuning, config, run=None)  # type: ignore[arg-type]
    expected = {"coarse": 4, "localizer": 4, "end_to_end": 8}
    assert scratch._epochs(48.0) == expected
    ((coarse, _, end_to_end),) = asked
    assert (coarse.phase, end_to_end.phase, coarse.config) == ("coarse", "end_to_end", config)
    assert (coarse.num_images, coarse.start) == (5, None)

    timed(monkeypatch, {"coarse": 9.0, "localizer": 9.0, "end_to_end": 9.0})
    file = fine_tuning.record.storage.root / "run.json"
    again = replace(
        fine_tuning, record=RunRecord(fine_tuning.record.storage, json.loads(file.read_text()))
    )
    scratch = replace(scratch, fine_tuning=again)
    assert scratch._epochs(1000.0) == expected


def test_a_loss_that_diverges_while_it_is_timed_is_a_failed_training(
    fine_tuning: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, "coarse: the loss is nan")
    scratch = ScratchTraining(fine_tuning, fine_tuning.config, run=None)  # type: ignore[arg-type]
    with pytest.raises(
        cluster.hybrid.scratch.PhaseFailedError, match="timed: coarse: the loss is nan"
    ):
        scratch._epochs(48.0)
    assert "scratch" not in fine_tuning.record.content


def test_other_settings_than_it_was_begun_with_are_refused_by_name(
    fine_tuning: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, {"coarse": 1.0, "localizer": 1.0, "end_to_end": 5.0})
    ScratchTraining(fine_tuning, fine_tuning.config, run=None)._epochs(48.0)  # type: ignore[arg-type]
    require_same_scratch_settings(fine_tuning.record.storage, fine_tuning.config)
    other = replace(fine_tuning.config, optim=replace(fine_tuning.config.optim, lr_fine=0.5))
    with pytest.raises(ValueError, match=r"\(scratch\.optim\.lr_fine: 0\.5, was 0\.01\)"):
        require_same_scratch_settings(fine_tuning.record.storage, other)
    require_same_scratch_settings(
        fine_tuning.record.storage, replace(fine_tuning.config, seed=9)
    )  # for the job to refuse


def test_what_has_not_begun_may_have_any_settings(fine_tuning: Training, tmp_path: Path) -> None:
    other = replace(fine_tuning.config, seed=9)
    require_same_scratch_settings(fine_tuning.record.storage, other)
    require_same_scratch_settings(Folder(tmp_path / "new"), other)


def test_a_batch_of_its_own_that_leaves_a_worker_none_is_refused(fine_tuning: Training) -> None:
    config = replace(fine_tuning.config, optim=replace(fine_tuning.config.optim, global_batch=1))
    with pytest.raises(ValueError, match="2 workers, but 5 training images"):
        open_scratch(fine_tuning, config, {})


def test_batches_are_of_the_images_that_are_chosen(shards: Path, tiny_config: TrainConfig) -> None:
    data = ShardedData.open(str(shards))
    require_batches(tiny_config, data, SHARE)
    with pytest.raises(ValueError, match=r"2 workers, but 1 training images .* batches of 1"):
        require_batches(tiny_config, data, SHARE, 1)


def test_no_more_images_are_asked_for_than_there_are(shards: Path) -> None:
    data = ShardedData.open(str(shards))
    require_images(data, None)
    require_images(data, 8)
    with pytest.raises(ValueError, match=r"num_images must be at most the 8 .*, got 9"):
        require_images(data, 9)


def test_a_phase_reads_the_chosen_images_and_validates_on_all(fine_tuning: Training) -> None:
    run, _ = open_phase(LocalContext(), phase_task(fine_tuning, "coarse", None), log=print)
    assert (len(run.train_faces), len(run.val_faces)) == (5, 2)
    everything = phase_task(replace(fine_tuning, chosen_images=None), "coarse", None)
    whole, _ = open_phase(LocalContext(), everything, log=print)
    assert len(whole.train_faces) == 8
    whole.train_faces.select(5, fine_tuning.config.seed)
    assert whole.train_faces.samples == run.train_faces.samples
    assert (fine_tuning.num_images, replace(fine_tuning, chosen_images=None).num_images) == (5, 8)
