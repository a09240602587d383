"""A job's runs as a tracker makes, resumes and ends them."""

import http.server
import math
import socket
import threading
from pathlib import Path

import pytest

from cluster.tracking.tracker import Tracker, run_tags
from cluster.tracking.tracking_uri import TrackingUnavailableError
from tests.tracked_runs import artifacts, data, logged, status


def test_a_job_and_its_phase(tracker, job, tmp_path):
    phase = tracker.start_or_resume_run("coarse", job.run_id, {"preset": "demo", "none": None})
    phase.log_metrics({"train/loss": 1.5, "val/f1_overall": math.nan, "val/f1_skin": None}, step=0)
    phase.log_metrics({"train/loss": 0.5}, step=1)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "f1.json").write_text("{}")
    phase.log_artifacts(tmp_path / "report", "report")
    phase.log_artifacts(tmp_path / "report" / "f1.json")
    phase.set_tags({"note": "x"})
    phase.finish("FINISHED")
    job.finish("KILLED")

    assert logged(phase, "train/loss") == [(0, 1.5), (1, 0.5)]
    assert math.isnan(logged(phase, "val/f1_overall")[0][1])
    assert "val/f1_skin" not in data(phase).metrics
    tags = data(phase).tags
    assert (tags["preset"], tags["note"]) == ("demo", "x")
    assert tags["mlflow.parentRunId"] == job.run_id
    assert "none" not in tags
    assert artifacts(phase) == ["f1.json", "report"]
    assert artifacts(phase, "report") == ["report/f1.json"]
    assert (status(phase), status(job)) == ("FINISHED", "KILLED")
    assert tracker.undelivered is None


def test_finishing_ends_a_run_as_its_block_ends(tracker, job):
    phase = tracker.start_or_resume_run("coarse", job.run_id)
    with job.finishing(), phase.finishing():
        assert (status(phase), status(job)) == ("RUNNING", "RUNNING")
    assert (status(phase), status(job)) == ("FINISHED", "FINISHED")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("diverged"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(1), "KILLED"),
    ],
)
def test_finishing_tells_how_a_block_broke_off(job, error, expected):
    with pytest.raises(type(error)) as raised, job.finishing():
        raise error
    assert raised.value is error
    assert status(job) == expected


def test_artifacts_lie_beside_the_sqlite_file(tracker, job, uri):
    folder = Path(uri.removeprefix("sqlite:///")).parent
    info = tracker.client.get_run(job.run_id).info
    assert info.artifact_uri.startswith(str(folder / "mlartifacts"))


def test_the_same_name_goes_on_and_doubles_nothing(uri, tmp_path, request):
    runs = []
    for epochs in (range(2), range(1, 4)):
        tracker = Tracker.connect(uri, outbox_folder=tmp_path / "outbox")
        job = tracker.start_or_resume_run(request.node.name, params={"optim": {"lr": 0.1}})
        phase = tracker.start_or_resume_run("coarse", job.run_id)
        for epoch in epochs:
            phase.log_metrics({"val/loss": float(epoch)}, step=epoch)
        runs.append((job.run_id, phase.run_id))
        assert status(job) == "RUNNING"
        phase.finish("FINISHED")
        job.finish("FAILED")
    assert runs[0] == runs[1]
    assert logged(phase, "val/loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    assert "params_changed_on_resume" not in data(job).tags


def test_a_phase_is_resumed_under_its_own_parent_only(tracker, request):
    jobs = [tracker.start_or_resume_run(f"{request.node.name}-{i}") for i in range(2)]
    phases = [tracker.start_or_resume_run("coarse", job.run_id).run_id for job in jobs]
    assert len(set(phases)) == 2
    assert tracker.start_or_resume_run("coarse").run_id not in phases


@pytest.mark.parametrize("name", ["", " ", 'a "b"'])
def test_names_that_cannot_be_found_again_are_refused(tracker, name):
    with pytest.raises(ValueError, match="run_name must be a name without double quotes"):
        tracker.start_or_resume_run(name)


def test_artifacts_that_are_not_there_are_refused(job, tmp_path):
    with pytest.raises(ValueError, match=r"artifacts must be a file or folder, got .*nothing"):
        job.log_artifacts(tmp_path / "nothing")


def test_a_deleted_experiment_is_refused(uri, tmp_path):
    tracker = Tracker.connect(uri, "deleted", outbox_folder=tmp_path)
    tracker.client.delete_experiment(tracker.experiment_id)
    with pytest.raises(ValueError, match=r"experiment 'deleted' .* is deleted; restore it"):
        Tracker.connect(uri, "deleted", outbox_folder=tmp_path)


def test_a_server_that_is_not_mlflow_is_refused(tmp_path):
    handler = http.server.SimpleHTTPRequestHandler
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(TrackingUnavailableError, match=f"127.0.0.1:{server.server_port}"):
            Tracker.connect(f"http://127.0.0.1:{server.server_port}", outbox_folder=tmp_path)
        server.shutdown()


def test_an_unreachable_server_is_refused_before_mlflow_would_try_it(tmp_path, monkeypatch):
    """MLflow would do so for minutes."""
    monkeypatch.setattr(
        "cluster.tracking.tracking_uri.MlflowClient", lambda **_: pytest.fail("it is asked")
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(TrackingUnavailableError, match=f"127.0.0.1:{port}.*start the server"):
            Tracker.connect(f"http://127.0.0.1:{port}", outbox_folder=tmp_path)


def test_run_tags_say_data_and_preset():
    tags = run_tags("abc", "demo")
    assert tags["data_fingerprint"] == "abc"
    assert tags["preset"] == "demo"
    assert "git_commit" in tags
