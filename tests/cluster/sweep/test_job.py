"""Sweeps on a real cluster: trials on tiny shards, tracked in MLflow."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from cluster.config import ScalingConfig, TrainingJobConfig
from cluster.sweep.config import SweepConfig, SweepJobConfig
from cluster.sweep.job import run_sweep
from jobs.options import parse_job
from stn_icnn.networks.checkpoint import load_checkpoint
from tests.sweeps import children, trials_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def done(settings: SweepJobConfig, ray_cluster: str) -> dict[str, Any]:
    return run_sweep(settings, "demo")


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
        assert (run.data.params["data"], run.data.params["train_images"]) == ("helen", "8")
        assert run.data.metrics["best_score"] == trial.score
        assert run.data.metrics["train/minutes"] > 0
        assert run.data.tags["weakest_class"].startswith("eyes ")
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
    assert run.data.metrics["best_score"] == done["best"]["val/f1_parts"]
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
