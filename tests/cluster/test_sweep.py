"""Sweeps on a real cluster: trials on tiny shards, killed and gone on with, tracked in MLflow."""

import json
import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import ray

from cluster.config import JobConfig, ScalingConfig
from cluster.sweep import run_sweep
from cluster.sweep_config import (
    ModelSpaces,
    OptimSpaces,
    PartSpaces,
    SpaceConfig,
    SweepConfig,
    SweepJobConfig,
)
from cluster.sweep_record import SweepRecord, Trial
from jobs.options import parse_job
from stn_icnn.checkpoint import load_checkpoint
from stn_icnn.config import FineConfig, TrainConfig

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
NUM_EPOCHS = 3


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    """A local cluster with room for two trials; its dashboard ends the workers of stopped ones."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    ray.init(address="local", num_cpus=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def settings(
    shards: Path, tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> SweepJobConfig:
    folder = tmp_path_factory.mktemp("sweep")
    optim = replace(tiny_config.optim, epochs_fine=NUM_EPOCHS)
    config = replace(tiny_config, optim=optim, fine=FineConfig(networks=("eye",)))
    return SweepJobConfig(
        **{f.name: getattr(config, f.name) for f in fields(TrainConfig)},
        data=str(shards),
        storage=str(folder / "storage"),
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        run_name="tiny",
        scaling=ScalingConfig(num_workers=1, cpus_per_worker=1),
        num_trials=3,
        sweep=SweepConfig(),
        space=SpaceConfig(
            model=ModelSpaces(patch_px=PartSpaces(eye=("9", "13", "17"))),
            optim=OptimSpaces(lr_fine=("log", "1e-3", "1e-1")),
        ),
    )


@pytest.fixture(scope="module")
def done(settings: SweepJobConfig, _cluster: None) -> dict[str, Any]:
    return run_sweep(settings, "demo")


def children(settings: SweepJobConfig, run_id: str) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    run = client.get_run(run_id)
    found = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    return sorted(found, key=lambda child: child.info.run_name)


def trials_of(settings: SweepJobConfig, run_name: str) -> list[Trial]:
    folder = Path(str(settings.storage)) / run_name
    content = json.loads((folder / "sweep.json").read_text())
    return SweepRecord.open(str(folder), content).trials


def test_every_trial_is_trained_and_tracked(done: dict[str, Any], settings: SweepJobConfig) -> None:
    trials = trials_of(settings, "tiny")
    assert [trial.name for trial in trials] == ["trial-0000", "trial-0001", "trial-0002"]
    assert trials[0].values == {"model.patch_px.eye": 17, "optim.lr_fine": 0.01}  # its own
    assert sum(done["trials"].values()) == 3
    assert done["trials"]["finished"] >= 1
    tracked = children(settings, done["run_id"])
    assert [run.info.run_name for run in tracked] == [trial.name for trial in trials]
    for run, trial in zip(tracked, trials, strict=True):
        assert run.data.tags["trial_state"] == trial.state
        assert run.info.status == {"finished": "FINISHED", "pruned": "KILLED"}[trial.state]
        assert run.data.params["optim.lr_fine"] == str(trial.values["optim.lr_fine"])
        client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
        history = client.get_metric_history(run.info.run_id, "val/f1_parts")
        assert {m.step: m.value for m in history} == trial.curve
        assert sorted(trial.curve) == list(range(1, trial.epochs + 1))


def test_the_best_setting_is_a_file_that_a_training_job_takes(
    done: dict[str, Any], settings: SweepJobConfig
) -> None:
    job, _ = parse_job("A job.", ["--config", done["config"]])
    assert isinstance(job, JobConfig)
    best = done["best"]["values"]
    assert job.model.patch_px.eye == best["model.patch_px.eye"]
    assert job.optim.lr_fine == best["optim.lr_fine"]
    assert job.validate_every_epochs == settings.validate_every_epochs
    assert job.model.window_px == settings.model.window_px


def test_report_and_best_model_are_artifacts(
    done: dict[str, Any], settings: SweepJobConfig, tmp_path: Path
) -> None:
    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    names = {artifact.path for artifact in client.list_artifacts(done["run_id"], "report")}
    assert names == {
        "report/sweep.md",
        "report/sweep.csv",
        "report/curves.png",
        "report/field_model.patch_px.eye.png",
        "report/field_optim.lr_fine.png",
    }
    model = load_checkpoint(client.download_artifacts(done["run_id"], "model", str(tmp_path)))
    best = trials_of(settings, "tiny")[int(done["best"]["trial"].removeprefix("trial-"))]
    assert model.metrics["val/f1_parts"] == best.score
    assert model.config.optim.lr_fine == best.values["optim.lr_fine"]


def test_the_same_command_again_trains_nothing(
    done: dict[str, Any], settings: SweepJobConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_sweep(settings, "demo") == done
    assert "epoch 1 of" not in capsys.readouterr().out


def test_other_settings_under_the_name_are_refused_by_field(
    done: dict[str, Any], settings: SweepJobConfig
) -> None:
    other = replace(
        settings, space=SpaceConfig(optim=OptimSpaces(lr_fine=("log", "1e-4", "1e-1"))), seeds=2
    )
    with pytest.raises(
        ValueError, match=r"space\.optim\.lr_fine: log 0\.0001 0\.1, was log 0"
    ) as e:
        run_sweep(other, "demo")
    assert "seeds: 2, was 1" in str(e.value)
    assert "--run-name" in str(e.value)
