"""What workers do in a Ray Train run: training a phase, whatever befalls them, and scoring."""

import io
import os
import signal
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cluster.training.worker
from cluster.scoring.worker import MODEL, ScoredSplit, ScoringTask, score_on_worker
from cluster.storage.dataset_shard import DatasetShard
from cluster.storage.datasets import ShardedData
from cluster.training.worker import TrainTask, train_on_worker
from cluster.workers.allocation import WorkerAllocation
from cluster.workers.errors import PhaseFailedError
from cluster.workers.launch import run_on_workers
from cluster.workers.ray_context import RayContext
from cluster.workers.reports import WorkerFailure, WorkerReport
from sharding.layouts.splits import SPLITS
from stn_icnn.config import TrainConfig
from stn_icnn.context import EpochReport, LocalContext, TrainReport
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from stn_icnn.networks.execution import prepare_model
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.scoring.confusion import count_confusions, parse_batch
from stn_icnn.scoring.f1 import confusion
from stn_icnn.storage import Folder
from stn_icnn.training.loop import PhaseRun, run_phase
from stn_icnn.training.phases import PHASES

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

TWO_WORKERS = WorkerAllocation(
    num_workers=2, cpus_per_worker=1, use_gpu=False, loader_processes=0, max_failures=0
)


def end_to_end_task(shards: Path, config: TrainConfig) -> TrainTask:
    """The phase from networks that are freshly initialised by the seed."""
    data = ShardedData.open(str(shards))
    return TrainTask(
        phase="end_to_end",
        config=config,
        data=data,
        start=None,
        loader_processes=0,
    )


def losses_of(reports: list[WorkerReport]) -> dict[int, float]:
    """By epoch; of a repeated one, after a restart, the last."""
    return {r.epoch: r.metrics["train/loss"] for r in reports if isinstance(r, EpochReport)}


@pytest.fixture(scope="module")
def frozen_stats(tiny_config: TrainConfig) -> TrainConfig:
    """Three epochs in which no sample's result depends on its batch."""
    optim = replace(tiny_config.optim, freeze_batch_stats=True, epochs_end_to_end=3)
    augment = replace(tiny_config.augment, mirror=0.5, colour=0.2, window_shift=0.02)
    return replace(tiny_config, optim=optim, augment=augment)


@pytest.fixture(scope="module")
def losses_of_one(shards: Path, frozen_stats: TrainConfig, tiny_faces) -> dict[int, float]:
    """Of one process that computes its batches whole."""
    torch.manual_seed(frozen_stats.seed)
    context = LocalContext()
    train_faces = tiny_faces("train", augmented=True)
    train_faces.augment = frozen_stats.augment
    run = PhaseRun(
        phase=PHASES["end_to_end"],
        config=frozen_stats,
        train_faces=train_faces,
        val_faces=tiny_faces("val"),
        data=ShardedData.open(str(shards)).facts,
        context=context,
    )
    run_phase(run, build_model(frozen_stats.model))
    return losses_of(context.reports)


class InterruptedContext(RayContext):
    """After the second epoch's first step, when rank 0 may have stored its checkpoint, kills rank
    1's process once, which the file `killed` records; without such a file, raises where that epoch
    would end."""

    killed: Path | None

    def report(self, report: TrainReport, checkpoint_dir: Path | None) -> None:
        (at,) = positions_of([report])
        if self.killed is None and at == (2, 0):
            raise RuntimeError("stopped")
        dies = self.killed is not None and at == (1, 1) and self.rank == 1
        if dies and not self.killed.exists():
            self.killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().report(report, checkpoint_dir)


def train_interrupted(given: tuple[TrainTask, Path | None]) -> str | None:
    task, InterruptedContext.killed = given
    cluster.training.worker.RayContext = InterruptedContext  # type: ignore[misc]
    return train_on_worker(task)


def positions_of(reports: list[WorkerReport]) -> list[tuple[int, int]]:
    """Epochs that are done and steps of the next one, by report."""
    of_training = [r for r in reports if not isinstance(r, WorkerFailure)]
    return [(r.epoch, getattr(r, "step", 0)) for r in of_training]


@pytest.fixture(scope="module")
def in_pieces(frozen_stats: TrainConfig) -> TrainConfig:
    """With a checkpoint at each step; each worker takes its share of a batch an image at a time."""
    optim = replace(frozen_stats.optim, micro_batch=1)
    return replace(frozen_stats, checkpoint_every_steps=1, optim=optim)


@dataclass(frozen=True)
class Killed:
    """A phase that two workers have trained to its end, though one of them was killed once."""

    reports: list[WorkerReport]
    returned: str | None


@pytest.fixture(scope="module")
def killed(
    shards: Path,
    in_pieces: TrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
    ray_cluster: str,
) -> Killed:
    storage, reports = tmp_path_factory.mktemp("killed"), list[WorkerReport]()
    result = run_on_workers(
        train_interrupted,
        (end_to_end_task(shards, in_pieces), storage / "died"),
        name="killed",
        storage=Folder(storage),
        allocation=replace(TWO_WORKERS, max_failures=1),
        on_report=reports.append,
    )
    assert (storage / "died").exists()
    return Killed(reports, result.return_value)


def test_two_workers_follow_the_loss_of_one(
    killed: Killed, losses_of_one: dict[int, float]
) -> None:
    """Same global batches and seed: the sums over two shares in pieces are those of the whole."""
    assert losses_of(killed.reports) == pytest.approx(losses_of_one, abs=1e-5)


def test_phase_goes_on_after_a_workers_death(killed: Killed) -> None:
    """From its last checkpoint, whose report may come again, to its end."""
    (failure,) = (r for r in killed.reports if isinstance(r, WorkerFailure))
    assert set(failure.errors) == {1}
    assert killed.returned is None
    expected = [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    assert list(dict.fromkeys(positions_of(killed.reports))) == expected


def test_phase_stopped_in_an_epoch_goes_on_with_other_workers_at_the_next_batch(
    shards: Path,
    in_pieces: TrainConfig,
    losses_of_one: dict[int, float],
    tmp_path: Path,
    ray_cluster: str,
) -> None:
    reports: list[WorkerReport] = []
    task = end_to_end_task(shards, in_pieces)
    run = partial(
        run_on_workers,
        name="stops",
        storage=Folder(tmp_path),
        on_report=reports.append,
    )
    with pytest.raises(PhaseFailedError, match="stopped"):
        run(train_interrupted, (task, None), allocation=TWO_WORKERS)
    assert (tmp_path / "stops" / "epoch_0001_step_00001").is_dir()
    run(train_on_worker, task, allocation=replace(TWO_WORKERS, num_workers=1))
    assert positions_of(reports) == [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    assert losses_of(reports) == pytest.approx(losses_of_one, abs=1e-5)


def diverge_then_score(tasks: tuple[TrainTask, ScoringTask]) -> tuple[Any, Any]:
    """Two things in one run of workers, whose start costs more than both."""
    return train_on_worker(tasks[0]), score_on_worker(tasks[1])


@dataclass(frozen=True)
class InTurn:
    """What two workers have returned and reported that diverged and then scored a model."""

    diverged: str | None
    scored: ScoredSplit
    reports: list[WorkerReport]
    model: bytes
    shards: tuple[DatasetShard, ...]


@pytest.fixture(scope="module")
def in_turn(
    shards: Path,
    tiny_config: TrainConfig,
    sure_model: STNiCNN,
    tmp_path_factory: pytest.TempPathFactory,
    ray_cluster: str,
) -> InTurn:
    """With a learning rate that no loss survives; on all 12 faces in batches of 8 and 4: one for
    each worker."""
    optim = replace(tiny_config.optim, lr_fine=1e30)
    data = ShardedData.open(str(shards))
    splits = data.manifest.splits
    every_shard = tuple(shard for split in SPLITS for shard in splits[split])
    manifest = replace(data.manifest, splits={"train": splits["val"], "test": every_shard})
    joined = replace(data, manifest=manifest)
    file = io.BytesIO()
    save_checkpoint(file, Checkpoint(sure_model, tiny_config, data.facts, "end_to_end"))
    scoring = ScoringTask({MODEL: file.getvalue()}, joined, "test", examples_per_kind=3)
    diverging = end_to_end_task(shards, replace(tiny_config, optim=optim))
    reports: list[WorkerReport] = []
    result = run_on_workers(
        diverge_then_score,
        (diverging, scoring),
        name="in-turn",
        storage=Folder(tmp_path_factory.mktemp("in-turn")),
        allocation=replace(TWO_WORKERS, max_failures=3),
        on_report=reports.append,
    )
    diverged, scored = result.return_value
    return InTurn(diverged, scored, reports, file.getvalue(), joined.shards("test"))


def test_diverging_phase_is_not_tried_again(in_turn: InTurn) -> None:
    assert "end_to_end: the loss is nan" in str(in_turn.diverged)
    assert not any(isinstance(report, WorkerFailure) for report in in_turn.reports)


def test_f1_from_two_workers_equals_f1_from_one(in_turn: InTurn) -> None:
    loaded = load_checkpoint(in_turn.model)
    model = prepare_model(loaded.model, loaded.config, torch.device("cpu"))
    faces = ShardedFaces([shard.url for shard in in_turn.shards], PAPER9)
    alone = count_confusions({MODEL: lambda b: parse_batch(model, b)}, faces, LocalContext())
    from_two = in_turn.scored.counts[MODEL]
    pixels = [faces[Request(i)].labels.numel() for i in range(len(faces))]
    assert from_two.sum(dim=(1, 2)).tolist() == pixels
    assert torch.equal(from_two, alone[MODEL])
    shown = {face.key: face for of_kind in in_turn.scored.examples.values() for face in of_kind}
    indices = [in_turn.scored.keys.index(key) for key in shown]
    assert min(indices) < 8 <= max(indices), "faces of both workers"
    for index, face in zip(indices, shown.values(), strict=True):
        truth, predicted = map(torch.from_numpy, (face.truth, face.predicted))
        assert torch.equal(confusion(truth, predicted, PAPER9.num_classes), from_two[index])
        assert np.array_equal(face.image, faces[Request(index)].images[0].permute(1, 2, 0))
    assert len(in_turn.scored.faces) == len(faces)
    for index, small in enumerate(in_turn.scored.faces):
        truth = np.asarray(Image.open(io.BytesIO(small.truth)))
        assert np.array_equal(truth, faces[Request(index)].labels[0])
