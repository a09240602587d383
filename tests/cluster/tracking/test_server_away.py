"""A real server that goes away while a job runs."""

import json
import math
import shutil
from pathlib import Path

import pytest
from urllib3.connection import HTTPConnection

from cluster.storage.datasets import ShardedData
from cluster.tracking.outbox import RETRY_AFTER_S
from cluster.tracking.tracker import Tracker
from tests.mlflow_server import MlflowServer
from tests.tracked_runs import artifacts, data, logged, picture, slides, status


@pytest.fixture(scope="module")
def server_of_module(tmp_path_factory, new_store, wait_until):
    server = MlflowServer.prepare(tmp_path_factory.mktemp("server"), new_store, wait_until)
    yield server
    server.stop()


@pytest.fixture
def server(server_of_module):
    if server_of_module.process is None:
        server_of_module.start()
    return server_of_module


@pytest.fixture
def tried(monkeypatch):
    """The port of each request that MLflow has tried, over a new connection or a kept one."""
    request, found = HTTPConnection.request, []

    def noted(connection, *args, **options):
        found.append(connection.port)
        return request(connection, *args, **options)

    monkeypatch.setattr(HTTPConnection, "request", noted)
    return found


@pytest.mark.slow
def test_what_is_logged_while_the_server_is_away_arrives_afterwards(
    server, tmp_path, clock, tried, shards
):
    tracker = Tracker.connect(server.uri, outbox_folder=tmp_path / "outbox")
    job = tracker.start_or_resume_run("outage")
    coarse = tracker.start_or_resume_run("coarse", job.run_id)
    coarse.log_metrics({"val/loss": 0.0}, step=0)

    server.stop()
    tried.clear()
    coarse.log_metrics({"val/loss": 1.0}, step=1)
    coarse.log_metrics({"val/loss": 1.5}, step=1)
    checkpoint = tmp_path / "temporary"
    checkpoint.mkdir()
    (checkpoint / "model.pt").write_text("weights")
    coarse.log_artifacts(checkpoint, "checkpoint")
    shutil.rmtree(checkpoint)
    coarse.log_pictures([picture("faces/1", 0)])
    coarse.log_curve("train/step_loss", [(10, 0.5), (20, 0.25)])
    coarse.finish("FINISHED")
    job.log_data(ShardedData.open(str(shards)), ["train"])
    job.describe("**F1 0.9**")
    localizer = tracker.start_or_resume_run("localizer", job.run_id, params={"lr": 0.1})
    localizer.log_metrics({"val/loss": math.nan}, step=0)
    assert localizer.run_id is None
    assert tracker.undelivered is not None
    assert tried == [server.port] * 2, "training waits for more than one call and its repetition"

    server.start()
    clock.now += RETRY_AFTER_S
    localizer.log_metrics({"val/loss": 2.0}, step=1)
    assert tracker.undelivered is None
    assert logged(coarse, "val/loss") == [(0, 0.0), (1, 1.0)]
    assert artifacts(coarse, "checkpoint") == ["checkpoint/model.pt"]
    assert slides(coarse) == [("faces~1", "0", "+compressed.webp"), ("faces~1", "0", ".png")]
    assert logged(coarse, "train/step_loss") == [(10, 0.5), (20, 0.25)]
    assert status(coarse) == "FINISHED"
    inputs = tracker.client.get_run(job.run_id).inputs.dataset_inputs
    assert [one.dataset.name for one in inputs] == ["helen train"]
    assert data(job).tags["mlflow.note.content"] == "**F1 0.9**"
    assert [step for step, _ in logged(localizer, "val/loss")] == [0, 1]
    assert data(localizer).params == {"lr": "0.1"}
    metrics = {"val/f1_overall": 0.5}
    version = coarse.register_model(
        "outage", "checkpoint", card="# Card", metrics=metrics, data_fingerprint="d", tags={}
    )
    assert version == "1"
    job.finish("FINISHED")
    assert status(job) == "FINISHED"


@pytest.mark.slow
def test_a_server_that_stays_away_leaves_a_file_that_the_same_name_delivers(
    server, tmp_path, clock, tried
):
    tracker = Tracker.connect(server.uri, outbox_folder=tmp_path / "outbox")
    job = tracker.start_or_resume_run("stays-away")
    server.stop()
    tried.clear()
    phase = tracker.start_or_resume_run("coarse", job.run_id)
    for epoch in range(3):
        phase.log_metrics({"val/loss": float(epoch)}, step=epoch)
    (tmp_path / "model.pt").write_text("weights")
    phase.log_artifacts(tmp_path / "model.pt", "checkpoint")
    phase.log_pictures([picture("faces/1", 0)])
    phase.finish("FINISHED")
    metrics = {"val/f1_overall": 0.7}
    assert not phase.register_model(
        "stays-away", "checkpoint", card="", metrics=metrics, data_fingerprint="d", tags={}
    )
    assert tried == [server.port] * 2
    job.finish("FAILED")
    assert tried == [server.port] * 4, "more than a last call and its repetition"
    records = [json.loads(line) for line in tracker.undelivered.read_text().splitlines()]
    assert [(r["step"], r["values"]) for r in records if r["op"] == "metrics"] == [
        (epoch, {"val/loss": epoch}) for epoch in range(3)
    ]
    (kept,) = (record["path"] for record in records if record["op"] == "artifacts")
    assert Path(kept).read_text() == "weights"
    assert Path(kept).is_relative_to(tmp_path / "outbox")
    (tmp_path / "model.pt").unlink()

    server.start()
    again = Tracker.connect(server.uri, outbox_folder=tmp_path / "outbox")
    job = again.start_or_resume_run("stays-away")
    phase = again.start_or_resume_run("coarse", job.run_id)
    phase.log_metrics({"val/loss": 9.0}, step=2)
    phase.log_pictures([picture("faces/1", 0), picture("faces/1", 2)])
    assert [(name, step) for name, step, kind in slides(phase) if kind == ".png"] == [
        ("faces~1", "0"),
        ("faces~1", "2"),
    ]
    assert logged(phase, "val/loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert artifacts(phase, "checkpoint") == ["checkpoint/model.pt"]
    assert again.client.get_model_version_by_alias("stays-away", "champion").version == "1"
    assert status(job) == "RUNNING"
    assert again.undelivered is None
