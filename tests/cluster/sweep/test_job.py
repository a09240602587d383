"""Sweeps on a real cluster: trials on tiny shards, killed and gone on with, tracked in MLflow."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import ray
import torch

from cluster.config import LocationsConfig, ScalingConfig, TrainingJobConfig
from cluster.sweep.config import SweepConfig, SweepJobConfig
from cluster.sweep.job import run_sweep
from cluster.sweep.sweep_record import Trial, load_trials
from cluster.sweep.trial_training import TrialPlan, run_trial
from jobs.options import parse_job, run_job
from jobs.tune import job
from stn_icnn.config import FineConfig, TrainConfig
from stn_icnn.networks.checkpoint import load_checkpoint
from stn_icnn.storage import Folder

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
NUM_EPOCHS = 3


@pytest.fixture(scope="module")
def settings(
    shards: Path,
    tiny_config: TrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
    new_store: Callable[[Path], str],
) -> SweepJobConfig:
    folder = tmp_path_factory.mktemp("sweep")
    optim = replace(tiny_config.optim, epochs_fine=NUM_EPOCHS)
    config = replace(tiny_config, optim=optim, fine=FineConfig(networks=("eye",)))
    return SweepJobConfig(
        training=config,
        data=str(shards),
        locations=LocationsConfig(storage=str(folder / "storage"), tracking_uri=new_store(folder)),
        run_name="tiny",
        scaling=ScalingConfig(num_workers=1, cpus_per_worker=1),
        num_trials=3,
        sweep=SweepConfig(),
        space=("model.patch_px.eye=9 13 17", "optim.lr_fine=log 1e-3 1e-1"),
    )


@pytest.fixture(scope="module")
def done(settings: SweepJobConfig, ray_cluster: str) -> dict[str, Any]:
    return run_sweep(settings, "demo")


def children(settings: SweepJobConfig, run_id: str) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(tracking_uri=settings.locations.tracking_uri)
    run = client.get_run(run_id)
    found = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    return sorted(found, key=lambda child: child.info.run_name)


def trials_of(settings: SweepJobConfig, run_name: str) -> list[Trial]:
    return load_trials(Folder(Path(str(settings.locations.storage), run_name)))


def test_every_trial_is_trained_and_tracked(done: dict[str, Any], settings: SweepJobConfig) -> None:
    trials = trials_of(settings, "tiny")
    assert [trial.name for trial in trials] == ["trial-0000", "trial-0001", "trial-0002"]
    assert trials[0].values == {"model.patch_px.eye": 17, "optim.lr_fine": 0.01}  # its own
    assert sum(done["trials"].values()) == 3
    assert done["trials"]["finished"] >= 1
    tracked = children(settings, done["run_id"])
    assert [run.info.run_name for run in tracked] == [f"tiny/{trial.name}" for trial in trials]
    for run, trial in zip(tracked, trials, strict=True):
        assert run.data.tags["trial_state"] == trial.state
        assert run.info.status == {"finished": "FINISHED", "pruned": "KILLED"}[trial.state]
        assert run.data.params["optim.lr_fine"] == str(trial.values["optim.lr_fine"])
        client = mlflow.MlflowClient(tracking_uri=settings.locations.tracking_uri)
        history = client.get_metric_history(run.info.run_id, "val/f1_parts")
        assert {m.step: m.value for m in history} == trial.curve
        assert sorted(trial.curve) == list(range(1, trial.epochs + 1))


def test_the_list_of_runs_says_what_came_of_it(
    done: dict[str, Any], settings: SweepJobConfig
) -> None:
    client = mlflow.MlflowClient(tracking_uri=settings.locations.tracking_uri)
    run = client.get_run(done["run_id"])
    assert (run.data.params["data"], run.data.params["train_images"]) == ("helen", "8")
    assert run.data.metrics["val/f1_parts"] == done["best"]["val/f1_parts"]
    assert run.data.metrics["train/minutes"] > 0
    assert run.data.tags["device"].endswith("1 thread, fp32")
    assert run.data.tags["weakest_class"].startswith("eyes ")
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith(f"**best of 3 trials: {done['best']['trial']}, val/f1_parts 0.")
    assert f"weakest {run.data.tags['weakest_class']}**" in note
    assert f"python jobs/e2e.py --config {done['config']}" in note
    assert "stn-icnn parse" not in note, "the coarse network is not trained"


def test_the_best_setting_is_a_file_that_a_training_job_takes(
    done: dict[str, Any], settings: SweepJobConfig
) -> None:
    job, _ = parse_job(TrainingJobConfig, "A job.", ["--config", done["config"]])
    assert isinstance(job, TrainingJobConfig)
    best = done["best"]["values"]
    assert job.training.model.patch_px["eye"] == best["model.patch_px.eye"]
    assert job.training.optim.lr_fine == best["optim.lr_fine"]
    assert job.training.validate_every_epochs == settings.training.validate_every_epochs
    assert job.training.model.window_px == settings.training.model.window_px


def test_report_and_best_model_are_artifacts(
    done: dict[str, Any], settings: SweepJobConfig, tmp_path: Path
) -> None:
    client = mlflow.MlflowClient(tracking_uri=settings.locations.tracking_uri)
    names = {artifact.path for artifact in client.list_artifacts(done["run_id"], "report")}
    assert names == {
        "report/report.html",
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
    printed = capsys.readouterr().out
    assert "epoch 1 of" not in printed
    ending = printed.rpartition("\nbest of 3 trials: ")[2]
    assert "report.html" in ending
    assert f"/runs/{done['run_id']}?workflowType=machine_learning" in ending


def test_other_settings_under_the_name_are_refused_by_field(
    done: dict[str, Any], settings: SweepJobConfig
) -> None:
    other = replace(settings, space=("optim.lr_fine=log 1e-4 1e-1",), seeds=2)
    with pytest.raises(
        ValueError, match=r"space\.optim\.lr_fine: log 0\.0001 0\.1, was log 0"
    ) as e:
        run_sweep(other, "demo")
    assert "seeds: 2, was 1" in str(e.value)
    assert "--run-name" in str(e.value)


def test_trials_that_can_never_fit_are_refused_with_the_arithmetic(
    done: dict[str, Any], settings: SweepJobConfig
) -> None:
    for scaling, needed in [
        (ScalingConfig(num_workers=3, cpus_per_worker=1, wait_s=0), "3 x 1 CPU needed"),
        (ScalingConfig(num_workers=1, cpus_per_worker=3, wait_s=0), "1 x 3 CPU needed"),
    ]:
        with pytest.raises(ValueError, match=rf"{needed}, the cluster's nodes have 2 CPUs"):
            run_sweep(replace(settings, scaling=scaling, run_name="large"), "demo")
    assert not (Path(str(settings.locations.storage)) / "large").exists()


def test_a_start_that_does_not_fit_a_trial_is_refused(
    done: dict[str, Any], settings: SweepJobConfig, tiny_model: Path
) -> None:
    sweep = SweepConfig(phases=("coarse", "localizer"), start=str(tiny_model))
    training = settings.training
    larger = replace(training, model=replace(training.model, kernel_size=5))
    message = r"sweep\.start: the coarse network to start from was made for other settings"
    with pytest.raises(ValueError, match=message):
        run_sweep(replace(settings, sweep=sweep, space=(), training=larger), "demo")
    alone = SweepConfig(phases=("end_to_end",))
    with pytest.raises(ValueError, match="end_to_end needs coarse and localizer trained"):
        run_sweep(replace(settings, sweep=alone, space=()), "demo")


GRID = SweepConfig(search="grid", scheduler="none")


def run_and_misbehave(trial: dict[str, Any], plan: TrialPlan) -> None:
    """Dies once after the first epoch of trial-0000; trial-0001 raises while a file is there."""
    assert isinstance(plan.storage, Folder)
    folder = plan.storage.root
    if trial["trial"] == "trial-0001" and (folder / "raises").exists():
        raise RuntimeError("no such luck")
    if trial["trial"] == "trial-0000" and not (folder / "died").exists():

        def die() -> None:
            while not plan.storage_of("trial-0000", "fine").reports():
                time.sleep(0.01)
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=die, daemon=True).start()
    run_trial(trial, plan)


def test_a_killed_worker_goes_on_and_what_fails_or_diverges_sinks_nothing(
    done: dict[str, Any], settings: SweepJobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.sweep.tune_run.run_trial", run_and_misbehave)
    folder = Path(str(settings.locations.storage)) / "faulty"
    folder.mkdir()
    (folder / "raises").touch()
    faulty = replace(
        settings,
        run_name="faulty",
        num_trials=3,
        space=("optim.lr_fine=1e-2 1e-3 1e30",),
        sweep=GRID,
        scaling=replace(settings.scaling, max_failures=1),
    )
    result = run_sweep(faulty, "demo")
    assert (folder / "died").exists()
    killed, failed, diverged = trials_of(settings, "faulty")
    assert (killed.state, sorted(killed.curve)) == ("finished", [1, 2, 3])
    assert (failed.state, failed.curve, failed.error) == (
        "failed",
        {},
        "RuntimeError: no such luck",
    )
    assert diverged.state == "diverged"
    assert "fine: the loss is nan at step" in str(diverged.error)
    assert result["trials"] == {"finished": 1, "failed": 1, "diverged": 1}
    tracked = children(settings, result["run_id"])
    assert [run.info.status for run in tracked] == ["FINISHED", "FAILED", "FAILED"]
    client = mlflow.MlflowClient(tracking_uri=settings.locations.tracking_uri)
    history = client.get_metric_history(tracked[0].info.run_id, "train/loss")
    assert [m.step for m in history] == [1, 2, 3]

    (folder / "raises").unlink()
    again = run_sweep(faulty, "demo")
    assert again["trials"] == {"finished": 2, "diverged": 1}
    assert trials_of(settings, "faulty")[0] == killed
    tracked = children(settings, again["run_id"])
    assert [run.info.status for run in tracked] == ["FINISHED", "FINISHED", "FAILED"]
    assert [bool(run.data.tags.get("error")) for run in tracked] == [False, False, True]


def run_and_score_by_number(trial: dict[str, Any], plan: TrialPlan) -> None:
    """Trains, but reports scores that are known: 0, -1, 1."""
    import cluster.sweep.trial_training

    score = {"trial-0000": 0.0, "trial-0001": -1.0, "trial-0002": 1.0}[trial["trial"]]
    report = ray.tune.report
    cluster.sweep.trial_training.tune.report = lambda values: report({**values, "score": score})
    run_trial(trial, plan)


def test_trials_of_two_workers_on_two_cpus_wait_for_no_one_that_waits_for_them(
    done: dict[str, Any], settings: SweepJobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at a time; the third needs the CPUs of the workers whose trial was stopped."""
    monkeypatch.setattr("cluster.sweep.tune_run.run_trial", run_and_score_by_number)
    two = replace(
        settings,
        run_name="two-workers",
        space=("optim.lr_fine=1e-2 1e-3 1e-4",),
        sweep=SweepConfig(search="grid", reduction_factor=2),
        scaling=ScalingConfig(num_workers=2, cpus_per_worker=1),
    )
    result = run_sweep(two, "demo")
    assert result["trials"] == {"finished": 2, "pruned": 1}
    trials = trials_of(settings, "two-workers")
    assert [trial.curve for trial in trials] == [
        {1: 0.0, 2: 0.0, 3: 0.0},
        {1: -1.0},
        {1: 1.0, 2: 1.0, 3: 1.0},
    ]
    assert result["epochs"] == {"trained": 7, "to_the_end": 9, "saved": pytest.approx(2 / 9)}
    assert result["best"]["trial"] == "trial-0002"
    statuses = [run.info.status for run in children(settings, result["run_id"])]
    assert statuses == ["FINISHED", "KILLED", "FINISHED"]


def test_all_phases_from_a_start_with_seeds(
    done: dict[str, Any], settings: SweepJobConfig, tiny_model: Path, tmp_path: Path
) -> None:
    """The coarse network is taken from a model, so a trial trains the two other phases alone."""
    training = settings.training
    optim = replace(training.optim, epochs_localizer=1, epochs_end_to_end=1)
    whole = replace(
        settings,
        run_name="seeds",
        training=replace(training, optim=optim),
        num_trials=1,
        seeds=2,
        space=("optim.lr_fine=1e-2 1e-3",),
        sweep=SweepConfig(phases=("localizer", "end_to_end"), start=str(tiny_model)),
    )
    result = run_sweep(whole, "demo")
    trials = trials_of(settings, "seeds")
    assert [(t.name, t.seed, t.state) for t in trials] == [
        ("trial-0000", 0, "finished"),
        ("trial-0000-seed-1", 1, "finished"),
    ]
    first, second = children(settings, result["run_id"])
    assert {"localizer/val/loss", "val/f1_overall"} <= set(first.data.metrics)
    assert (first.data.params["seed"], second.data.params["seed"]) == ("0", "1")
    scores = [trial.score for trial in trials]
    assert result["best"]["val/f1_overall"] == pytest.approx(sum(scores) / 2)
    client = mlflow.MlflowClient(tracking_uri=settings.locations.tracking_uri)
    note = client.get_run(result["run_id"]).data.tags["mlflow.note.content"]
    assert f"stn-icnn parse PHOTO --model runs:/{result['run_id']}/model " in note
    start = load_checkpoint(tiny_model).model.coarse.state_dict()
    model = load_checkpoint(
        Path(
            str(settings.locations.storage), "seeds", "trial-0000-seed-1", "localizer", "epoch_0001"
        )
    ).model.coarse.state_dict()
    assert all(torch.equal(start[name], model[name]) for name in start)


def test_a_killed_driver_s_sweep_goes_on_without_a_trial_lost_or_doubled(
    ray_cluster: str,
    settings: SweepJobConfig,
    tmp_path: Path,
    wait_until,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Twice, at whatever moment it is when a first and a second trial have reported."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(asdict(settings.training)))
    arguments = [
        *("--config", str(config), "--data", str(settings.data), "--run-name", "killed"),
        *(
            "--storage",
            str(settings.locations.storage),
            "--tracking-uri",
            str(settings.locations.tracking_uri),
        ),
        *("--num-trials", "3", "--sweep.scheduler", "none"),
        *("--space", "optim.lr-fine=log 1e-3 1e-1"),
    ]
    command = [sys.executable, str(ROOT / "jobs" / "tune.py"), *arguments]
    environment = {**os.environ, "RAY_ADDRESS": ray_cluster}
    folder = Path(str(settings.locations.storage)) / "killed" / "trials"

    def num_reported() -> int:
        return sum('"1":' in path.read_text() for path in folder.glob("*.json"))

    for reported in (1, 2):
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as driver:
            wait_until(lambda: num_reported() >= reported, driver)  # noqa: B023
            driver.kill()
    before = {trial.name: trial.values for trial in trials_of(settings, "killed")}
    assert 2 <= len(before) <= 3
    monkeypatch.setattr(sys, "argv", command[1:])
    assert run_job(job) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["trials"] == {"finished": 3}
    trials = trials_of(settings, "killed")
    assert [trial.name for trial in trials] == [f"trial-{i:04d}" for i in range(3)]
    assert all(sorted(trial.curve) == [1, 2, 3] for trial in trials)
    assert before.items() <= {trial.name: trial.values for trial in trials}.items()
    tracked = children(settings, result["run_id"])
    assert [run.info.run_name for run in tracked] == [f"killed/{trial.name}" for trial in trials]
    client = mlflow.MlflowClient(tracking_uri=settings.locations.tracking_uri)
    for run, trial in zip(tracked, trials, strict=True):
        history = client.get_metric_history(run.info.run_id, "val/f1_parts")
        assert {m.step: m.value for m in history} == trial.curve
        assert len(history) == NUM_EPOCHS
        assert run.info.status == "FINISHED"
