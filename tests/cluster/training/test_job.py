"""The main job on real Ray workers, tracked in a real MLflow store."""

import contextlib
import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import ray
import torch

import cluster.training.worker
from cluster.config import LocationsConfig, ScalingConfig, TrainingJobConfig
from cluster.scoring.worker import MODEL, ScoringTask, score_split
from cluster.storage.datasets import ShardedData
from cluster.tracking.stored_models import resolve_model
from cluster.training.job import run_end_to_end
from cluster.training.worker import TrainTask, train
from cluster.workers.allocation import WorkerAllocation
from cluster.workers.launch import PhaseFailedError, run_on_workers
from cluster.workers.ray_cluster import join_cluster
from cluster.workers.ray_context import RayContext
from sharding.layouts.splits import SPLITS
from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext, Metrics
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.labels import PAPER9
from stn_icnn.networks.checkpoint import load_checkpoint
from stn_icnn.networks.execution import prepare_model
from stn_icnn.networks.model import build_model
from stn_icnn.scoring.confusion import count_confusions, parse_batch
from stn_icnn.scoring.f1 import confusion
from stn_icnn.storage import Folder
from stn_icnn.training.loop import PhaseRun, run_phase
from stn_icnn.training.phases import MODEL_PHASES

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

TWO_WORKERS = WorkerAllocation(num_workers=2, cpus_per_worker=1, use_gpu=False, loader_processes=0)


@dataclass(frozen=True)
class Done:
    """A job that has run."""

    settings: TrainingJobConfig
    result: dict[str, Any]
    client: mlflow.MlflowClient
    printed: str


@pytest.fixture(scope="module")
def done(
    shards: Path,
    tiny_config: TrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
    new_store: Callable[[Path], str],
    ray_cluster: str,
) -> Done:
    folder = tmp_path_factory.mktemp("job")
    uri = new_store(folder)
    config = replace(tiny_config, checkpoint_every_steps=1)
    settings = TrainingJobConfig(
        training=config,
        data=str(shards),
        run_name="tiny",
        locations=LocationsConfig(storage=str(folder / "storage"), tracking_uri=uri),
        scaling=ScalingConfig(num_workers=2, cpus_per_worker=1),
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = run_end_to_end(settings, "demo")
    return Done(settings, result, mlflow.MlflowClient(tracking_uri=uri), printed.getvalue())


def test_last_line_says_what_came_of_it(done: Done) -> None:
    result = json.loads(json.dumps(done.result))
    assert result["run_name"] == "tiny"
    assert result["model"] == "models:/stn-icnn-helen/1"
    assert set(result["systems"]) == {"STN-iCNN", "coarse network", "mean label map"}
    assert result["test"]["skin"] is None
    assert "undelivered" not in result


def test_run_is_in_mlflow(done: Done) -> None:
    run = done.client.get_run(done.result["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["data_fingerprint"] == done.result["data_fingerprint"]
    assert run.data.params["optim.lr_fine"] == str(done.settings.training.optim.lr_fine)
    assert run.data.metrics["test/f1_overall"] == done.result["test"]["overall"]
    children = done.client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    )
    assert {child.data.tags["phase"] for child in children} == set(MODEL_PHASES)
    for child in children:
        assert child.info.status == "FINISHED"
        steps = [m.step for m in done.client.get_metric_history(child.info.run_id, "train/loss")]
        assert steps == [1, 2]
        assert 0 <= child.data.metrics["train/data_wait_fraction"] <= 1


def test_a_checkpoint_in_an_epoch_is_told_as_one(done: Done) -> None:
    lines = [line for line in done.printed.splitlines() if line.startswith("coarse: epoch")]
    assert [line.partition(": loss")[0] for line in lines] == [
        "coarse: epoch 1, checkpoint after step 1",
        "coarse: epoch 1 of 2",
        "coarse: epoch 2, checkpoint after step 1",
        "coarse: epoch 2 of 2",
    ]


def test_report_config_and_model_are_artifacts(done: Done, tmp_path: Path) -> None:
    run_id = done.result["run_id"]
    names = {a.path for a in done.client.list_artifacts(run_id, "report")}
    assert {"report/f1.json", "report/f1.md", "report/f1.csv", "report/f1.png"} <= names
    config = done.client.download_artifacts(run_id, "config.json", str(tmp_path))
    assert json.loads(Path(config).read_text())["optim"]["global_batch"] == 4
    champion = resolve_model(
        "models:/stn-icnn-helen@champion", done.settings.locations.tracking_uri
    )
    parser = FaceParser.load(champion)
    photo = np.full((90, 80, 3), 128, dtype=np.uint8)
    assert parser.parse(photo).labels.shape == (90, 80)


def test_same_name_again_trains_nothing_and_ends_alike(done: Done, capsys) -> None:
    again = run_end_to_end(done.settings, "demo")
    assert again == done.result
    out = capsys.readouterr().out
    for phase in MODEL_PHASES:
        assert f"{phase}: finished before" in out


def test_same_name_with_other_settings_is_refused(done: Done) -> None:
    training = done.settings.training
    other = replace(training, optim=replace(training.optim, lr_fine=0.5))
    with pytest.raises(ValueError, match=r"optim\.lr_fine: 0\.5, was 0\.01"):
        run_end_to_end(replace(done.settings, training=other), "demo")


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


def losses_of(reports: list[dict[str, Any]]) -> dict[int, float]:
    """By epoch; of a repeated one, after a restart, the last."""
    return {int(r["epoch"]): r["train/loss"] for r in reports if "train/loss" in r}


@pytest.fixture(scope="module")
def frozen_stats(tiny_config: TrainConfig) -> TrainConfig:
    """Three epochs in which no sample's result depends on its batch."""
    optim = replace(tiny_config.optim, freeze_batch_stats=True, epochs_end_to_end=3)
    augment = replace(tiny_config.augment, mirror=0.5, colour=0.2, window_shift=0.02)
    return replace(tiny_config, optim=optim, augment=augment)


@pytest.fixture(scope="module")
def two_worker_losses(
    shards: Path,
    frozen_stats: TrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
    ray_cluster: str,
) -> dict[int, float]:
    """Of two workers that take their shares of a batch an image at a time."""
    reports: list[dict[str, Any]] = []
    in_pieces = replace(frozen_stats, optim=replace(frozen_stats.optim, micro_batch=1))
    run_on_workers(
        train,
        end_to_end_task(shards, in_pieces),
        name="two",
        storage=Folder(tmp_path_factory.mktemp("two")),
        allocation=TWO_WORKERS,
        max_failures=0,
        on_report=reports.append,
    )
    return losses_of(reports)


def test_two_workers_follow_the_loss_of_one(
    shards: Path, frozen_stats: TrainConfig, tiny_faces, two_worker_losses: dict[int, float]
) -> None:
    """Same global batches and seed: the sums over two shares in pieces are those of the whole."""
    torch.manual_seed(frozen_stats.seed)
    context = LocalContext()
    train_faces = tiny_faces("train", augmented=True)
    train_faces.augment = frozen_stats.augment
    run = PhaseRun(
        phase="end_to_end",
        config=frozen_stats,
        train_faces=train_faces,
        val_faces=tiny_faces("val"),
        data=ShardedData.open(str(shards)).facts,
        context=context,
    )
    run_phase(run, build_model(frozen_stats.model))
    assert losses_of(context.reports) == pytest.approx(two_worker_losses, abs=1e-5)


def test_f1_from_two_workers_equals_f1_from_one(
    done: Done, shards: Path, tiny_faces, tmp_path: Path
) -> None:
    data = ShardedData.open(str(shards))
    every_shard = tuple(shard for split in SPLITS for shard in data.shards(split))
    model_file = (
        resolve_model(done.result["model"], done.settings.locations.tracking_uri) / "model.pt"
    )
    result = run_on_workers(
        score_split,
        # All 12 faces in batches of 8 and 4: one for each worker.
        ScoringTask(
            {MODEL: model_file.read_bytes()},
            every_shard,
            data.shards("val"),
            examples_per_kind=3,
            label_set=PAPER9,
        ),
        name="evaluate",
        storage=Folder(tmp_path),
        allocation=TWO_WORKERS,
        max_failures=0,
        on_report=lambda report: None,
    )
    loaded = load_checkpoint(model_file)
    model = prepare_model(loaded.model, loaded.config, torch.device("cpu"))
    faces = ShardedFaces([shard.url for shard in every_shard], PAPER9)
    alone = count_confusions({MODEL: lambda b: parse_batch(model, b)}, faces, LocalContext())
    scored = result.return_value
    from_two = scored.counts[MODEL]
    pixels = [faces[Request(i)].labels.numel() for i in range(len(faces))]
    assert from_two.sum(dim=(1, 2)).tolist() == pixels
    assert torch.equal(from_two, alone[MODEL])
    shown = {face.key: face for of_kind in scored.examples.values() for face in of_kind}
    indices = [scored.keys.index(key) for key in shown]
    assert min(indices) < 8 <= max(indices), "faces of both workers"
    for index, face in zip(indices, shown.values(), strict=True):
        truth, predicted = map(torch.from_numpy, (face.truth, face.predicted))
        assert torch.equal(confusion(truth, predicted, PAPER9.num_classes), from_two[index])
        assert np.array_equal(face.image, faces[Request(index)].image.permute(1, 2, 0))


def train_and_die_once(given: tuple[TrainTask, str, str]) -> str | None:
    """`train`, but rank 1 is killed once, as soon as the first epoch's checkpoint is there."""
    task, storage, marker = given
    if RayContext().rank == 1 and not os.path.exists(marker):

        def die() -> None:
            while not os.path.exists(os.path.join(storage, "dies", "epoch_0001")):
                time.sleep(0.01)
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=die, daemon=True).start()
    return train(task)


def test_phase_goes_on_after_a_workers_death(
    shards: Path, frozen_stats: TrainConfig, two_worker_losses: dict[int, float], tmp_path: Path
) -> None:
    reports: list[dict[str, Any]] = []
    marker = tmp_path / "died"
    result = run_on_workers(
        train_and_die_once,
        (end_to_end_task(shards, frozen_stats), str(tmp_path), str(marker)),
        name="dies",
        storage=Folder(tmp_path),
        allocation=TWO_WORKERS,
        max_failures=1,
        on_report=reports.append,
    )
    assert marker.exists()
    assert result.return_value is None
    assert losses_of(reports) == pytest.approx(two_worker_losses, abs=1e-5)


class StoppingContext(RayContext):
    """Raises where the second epoch would end, after the checkpoint in its middle."""

    def report(self, metrics: Metrics, checkpoint_dir: Path | None) -> None:
        if metrics["epoch"] == 2:
            raise RuntimeError("stopped")
        super().report(metrics, checkpoint_dir)


def train_and_stop(task: TrainTask) -> str | None:
    cluster.training.worker.RayContext = StoppingContext  # type: ignore[misc]
    return train(task)


def test_phase_stopped_in_an_epoch_goes_on_with_other_workers_at_the_next_batch(
    shards: Path, frozen_stats: TrainConfig, two_worker_losses: dict[int, float], tmp_path: Path
) -> None:
    reports: list[dict[str, Any]] = []
    run = partial(
        run_on_workers,
        task=end_to_end_task(shards, replace(frozen_stats, checkpoint_every_steps=1)),
        name="stops",
        storage=Folder(tmp_path),
        max_failures=0,
        on_report=reports.append,
    )
    with pytest.raises(PhaseFailedError, match="stopped"):
        run(train_and_stop, allocation=TWO_WORKERS)
    assert (tmp_path / "stops" / "epoch_0001_step_00001").is_dir()
    run(train, allocation=replace(TWO_WORKERS, num_workers=1))
    positions = [(r["epoch"], r["step"]) for r in reports if "epoch" in r]
    assert positions == [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    assert losses_of(reports) == pytest.approx(two_worker_losses, abs=1e-5)


def test_diverging_phase_is_not_tried_again(
    shards: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    optim = replace(tiny_config.optim, lr_fine=1e30)
    reports: list[dict[str, Any]] = []
    result = run_on_workers(
        train,
        end_to_end_task(shards, replace(tiny_config, optim=optim)),
        name="diverges",
        storage=Folder(tmp_path),
        allocation=TWO_WORKERS,
        max_failures=3,
        on_report=reports.append,
    )
    assert "end_to_end: the loss is nan" in result.return_value
    assert not any("failed" in report for report in reports)


def test_joining_does_not_start_a_second_cluster() -> None:
    before = ray.get_runtime_context().gcs_address
    join_cluster()
    assert ray.get_runtime_context().gcs_address == before
