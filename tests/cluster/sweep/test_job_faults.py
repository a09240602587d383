"""Sweeps on a real cluster whose workers or driver are killed, or lack room."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import ray

from cluster.config import ScalingConfig
from cluster.sweep.config import SweepConfig, SweepJobConfig
from cluster.sweep.job import run_sweep
from cluster.sweep.trial_training import TrialPlan, run_trial
from jobs.running import run_job
from jobs.tune import job
from stn_icnn.storage import Folder
from tests.sweeps import NUM_EPOCHS, children, trials_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]


ROOT = Path(__file__).parents[3]


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
    ray_cluster: str, settings: SweepJobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.sweep.tune_run.run_trial", run_and_misbehave)
    folder = Path(str(settings.locations.storage)) / "faulty"
    folder.mkdir(parents=True)
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
    ray_cluster: str, settings: SweepJobConfig, monkeypatch: pytest.MonkeyPatch
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
