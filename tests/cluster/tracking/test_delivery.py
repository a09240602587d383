"""What arrives in a store that is there: once, and without what the store refuses."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from cluster.tracking.tracker import Tracker
from tests.tracked_runs import ArtifactStoreError, artifacts, data, logged


def test_a_repeated_report_counts_once(job):
    job.log_metrics({"val/loss": 1.0}, step=0)
    job.log_metrics({"val/loss": 2.0}, step=1)
    job.log_metrics({"val/loss": 2.5, "val/other": 7.0}, step=1)  # the worker died and came back
    job.log_metrics({"val/loss": 3.0}, step=2)
    assert logged(job, "val/loss") == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert logged(job, "val/other") == [(1, 7.0)]


def test_a_curve_within_epochs_has_each_step_once(job):
    job.log_curve("train/step_loss", [(10, 1.0), (20, 0.5)])  # a checkpoint in the epoch
    job.log_curve("train/step_loss", [(10, 1.0), (20, 0.5), (25, 0.4)])  # its end
    job.log_curve("train/step_loss", [])
    assert logged(job, "train/step_loss") == [(10, 1.0), (20, 0.5), (25, 0.4)]


def test_points_of_a_curve_that_are_no_numbers_arrive_also_after_a_stop(tracker, job, monkeypatch):
    def away(*arguments, **more):
        raise ConnectionError("away")

    with monkeypatch.context() as patched:
        patched.setattr(tracker.client, "log_batch", away)
        job.log_curve("train/step_loss", [(10, 1.0), (20, math.nan)])
    assert tracker.undelivered is not None
    again = Tracker.connect(tracker.uri, outbox_folder=tracker.undelivered.parent)
    again.start_or_resume_run(job.name)  # reads the file that the first driver has left
    (first, second) = logged(job, "train/step_loss")
    assert first == (10, 1.0)
    assert second[0] == 20
    assert math.isnan(second[1])


def test_a_phase_that_an_earlier_version_began_is_gone_on_with(tracker, job):
    before = tracker.start_or_resume_run("coarse", job.run_id)
    before.log_metrics({"val/loss": 0.0}, step=0)
    name = f"{job.name}/coarse"
    for _ in range(2):
        phase = tracker.start_or_resume_run(name, job.run_id, former_name="coarse")
        assert phase.run_id == before.run_id
    phase.log_metrics({"val/loss": 1.0}, step=1)
    assert logged(phase, "val/loss") == [(0, 0.0), (1, 1.0)]
    assert tracker.client.get_run(phase.run_id).info.run_name == name


def test_params_are_set_once_and_a_change_is_told(uri, tmp_path, request):
    many = {f"p{i}": i for i in range(150)}  # more than MLflow takes in one call
    for params in ({"lr": 0.1, **many}, {"lr": 0.2, "new": {"x": "y" * 9000}, **many}):
        tracker = Tracker.connect(uri, outbox_folder=tmp_path)
        job = tracker.start_or_resume_run(request.node.name, params=params)
        tracker.start_or_resume_run(request.node.name, params=params)
    stored = data(job).params
    assert stored["lr"] == "0.1"
    assert stored["new.x"] == "y" * 5000
    assert stored["p149"] == "149"
    assert data(job).tags["params_changed_on_resume"] == "lr: 0.1 -> 0.2"


def test_what_mlflow_refuses_is_set_aside_and_the_rest_goes_on(tracker, job):
    job.log_metrics({"val/f1[0]": 1.0}, step=0)  # a name that MLflow does not allow
    job.log_metrics({"val/loss": 1.0}, step=0)
    assert logged(job, "val/loss") == [(0, 1.0)]
    (line,) = tracker.undelivered.read_text().splitlines()
    assert json.loads(line)["values"] == {"val/f1[0]": 1.0}
    assert "val/f1[0]" in json.loads(line)["refused"]


def test_an_artifact_store_that_is_away_holds_up_no_metrics(tracker, job, tmp_path, monkeypatch):
    def fail(*arguments):
        raise ArtifactStoreError("no such bucket")

    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model.pt").write_text("weights")
    with monkeypatch.context() as patched:
        patched.setattr(tracker.client, "log_artifacts", fail)
        job.log_artifacts(tmp_path / "checkpoint", "checkpoint")
        version = job.register_model(
            "held-up", "checkpoint", card="", metrics={}, data_fingerprint="d", tags={}
        )
        job.log_metrics({"val/loss": 1.0}, step=0)
    assert version is None, "a version without its checkpoint"
    assert logged(job, "val/loss") == [(0, 1.0)]
    assert "no such bucket" in tracker.undelivered.read_text()

    shutil.rmtree(tmp_path / "checkpoint")  # a copy is kept
    job.finish("FINISHED")
    assert artifacts(job, "checkpoint") == ["checkpoint/model.pt"]
    assert len(tracker.client.search_model_versions("name = 'held-up'")) == 1
    assert tracker.undelivered is None
    assert not list((tmp_path / "outbox").iterdir())


@pytest.mark.slow
def test_two_jobs_may_be_the_first_to_use_a_sqlite_file(tmp_path):
    code = "import sys; from cluster.tracking.tracker import Tracker; Tracker.connect(sys.argv[1])"
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "XDG_DATA_HOME": str(tmp_path),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, f"sqlite:///{tmp_path}/mlflow.db"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    tracker = Tracker.connect(f"sqlite:///{tmp_path}/mlflow.db", outbox_folder=tmp_path)
    assert len(tracker.client.search_experiments(view_type=ViewType.ALL)) == 2


def test_an_experiment_made_by_another_driver_is_taken(uri, tmp_path, monkeypatch):
    def create(*arguments, **more):
        raise MlflowException("already there", error_code=3001)  # RESOURCE_ALREADY_EXISTS

    tracker = Tracker.connect(uri, outbox_folder=tmp_path)
    client, real, answers = tracker.client, tracker.client.get_experiment_by_name, [None]
    monkeypatch.setattr(client, "create_experiment", create)
    monkeypatch.setattr(
        client, "get_experiment_by_name", lambda name: answers.pop() if answers else real(name)
    )
    monkeypatch.setattr("cluster.tracking.tracking_uri.MlflowClient", lambda tracking_uri: client)
    assert Tracker.connect(uri, outbox_folder=tmp_path).experiment_id == tracker.experiment_id


@pytest.mark.parametrize("name", ["liam's run", "a\\b", "100%"])
def test_odd_names_are_found_again(tracker, uri, tmp_path, name):
    first = tracker.start_or_resume_run(name).run_id
    again = Tracker.connect(uri, outbox_folder=tmp_path / "outbox")
    assert again.start_or_resume_run(name).run_id == first
