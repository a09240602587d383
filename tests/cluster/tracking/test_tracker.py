import http.server
import io
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from PIL import Image
from urllib3.connection import HTTPConnection

from cluster.storage.datasets import ShardedData
from cluster.tracking import outbox
from cluster.tracking.outbox import RETRY_AFTER_S, Outbox, RefusedError
from cluster.tracking.tracker import Run, Tracker, run_tags
from cluster.tracking.tracking_uri import TrackingUnavailableError
from stn_icnn.context import Picture
from tests.mlflow_server import MlflowServer


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> str:
    return new_store(tmp_path_factory.mktemp("tracking"))


@pytest.fixture
def tracker(uri: str, tmp_path: Path) -> Tracker:
    return Tracker.connect(uri, outbox_folder=tmp_path / "outbox")


@pytest.fixture
def job(tracker: Tracker, request: pytest.FixtureRequest) -> Run:
    return tracker.start_or_resume_run(request.node.name)


def logged(run: Run, key: str) -> list[tuple[int, float]]:
    history = run.tracker.client.get_metric_history(run.run_id, key)
    return [(metric.step, metric.value) for metric in history]


def data(run: Run):
    return run.tracker.client.get_run(run.run_id).data


def status(run: Run) -> str:
    return run.tracker.client.get_run(run.run_id).info.status


def artifacts(run: Run, path: str | None = None) -> list[str]:
    return [file.path for file in run.tracker.client.list_artifacts(run.run_id, path)]


# A store that is there.


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


def test_a_repeated_report_counts_once(job):
    job.log_metrics({"val/loss": 1.0}, step=0)
    job.log_metrics({"val/loss": 2.0}, step=1)
    job.log_metrics({"val/loss": 2.5, "val/other": 7.0}, step=1)  # the worker died and came back
    job.log_metrics({"val/loss": 3.0}, step=2)
    assert logged(job, "val/loss") == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert logged(job, "val/other") == [(1, 7.0)]


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


def test_a_curve_within_epochs_has_each_step_once(job):
    job.log_curve("train/step_loss", [(10, 1.0), (20, 0.5)])  # a checkpoint in the epoch
    job.log_curve("train/step_loss", [(10, 1.0), (20, 0.5), (25, 0.4)])  # its end
    job.log_curve("train/step_loss", [])
    assert logged(job, "train/step_loss") == [(10, 1.0), (20, 0.5), (25, 0.4)]


def picture(name: str, epoch: int, colour: str = "red") -> Picture:
    content = io.BytesIO()
    Image.new("RGB", (390, 422), colour).save(content, "WEBP")
    return Picture(name, epoch, content.getvalue())


def slides(run: Run) -> list[tuple[str, str, str]]:
    """The name, step and kind of each file that the UI's image slider finds."""
    files = [path.removeprefix("images/") for path in artifacts(run, "images")]
    pattern = r"(.+)\+step\+(\d+)\+timestamp\+\d+\+[0-9a-f-]{36}(\+compressed\.webp|\.png)"
    return sorted(re.fullmatch(pattern, file).groups() for file in files)


def test_pictures_of_an_epoch_are_slides_once_also_for_the_next_driver(uri, tmp_path, job):
    job.log_pictures([picture("faces/1", 0), picture("faces/2", 0)])
    job.log_pictures([picture("faces/1", 0, "blue"), picture("faces/1", 3)])  # a worker has died
    again = Tracker.connect(uri, outbox_folder=tmp_path / "outbox")
    again.start_or_resume_run(job.name).log_pictures([picture("faces/1", 3, "blue")])
    assert slides(job) == [
        (name, step, kind)
        for name, step in (("faces~1", "0"), ("faces~1", "3"), ("faces~2", "0"))
        for kind in ("+compressed.webp", ".png")
    ]
    assert data(job).tags["mlflow.loggedImages"] == "True"
    for path in artifacts(job, "images"):
        file = Path(job.tracker.client.download_artifacts(job.run_id, path, str(tmp_path)))
        with Image.open(file) as image:
            assert max(image.size) == (212 if file.suffix == ".webp" else 422)
            red, _, blue = image.convert("RGB").getpixel((9, 9))
            assert red > 200 > 50 > blue


def test_an_upload_that_broke_off_is_made_good(job, monkeypatch):
    upload, calls = job.tracker.client.log_artifact, []

    def break_off(run_id, path, *more):
        calls.append(path)
        if len(calls) == 2:
            raise ArtifactStoreError("connection reset")
        upload(run_id, path, *more)

    with monkeypatch.context() as patched:
        patched.setattr(job.tracker.client, "log_artifact", break_off)
        job.log_pictures([picture("faces/1", 0)])
        job.log_metrics({"val/loss": 1.0}, step=0)
    assert logged(job, "val/loss") == [(0, 1.0)]
    assert len(slides(job)) == 1
    job.tracker.flush(force=True)
    assert len(slides(job)) == 2
    assert job.tracker.undelivered is None


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


@pytest.mark.parametrize("name", ["liam's run", "a\\b", "100%"])
def test_odd_names_are_found_again(tracker, uri, tmp_path, name):
    first = tracker.start_or_resume_run(name).run_id
    again = Tracker.connect(uri, outbox_folder=tmp_path / "outbox")
    assert again.start_or_resume_run(name).run_id == first


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


# A store that refuses one thing.


def test_what_mlflow_refuses_is_set_aside_and_the_rest_goes_on(tracker, job):
    job.log_metrics({"val/f1[0]": 1.0}, step=0)  # a name that MLflow does not allow
    job.log_metrics({"val/loss": 1.0}, step=0)
    assert logged(job, "val/loss") == [(0, 1.0)]
    (line,) = tracker.undelivered.read_text().splitlines()
    assert json.loads(line)["values"] == {"val/f1[0]": 1.0}
    assert "val/f1[0]" in json.loads(line)["refused"]


class ArtifactStoreError(Exception):
    """As an artifact store's own client raises."""


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


# The outbox alone.


@pytest.fixture
def clock(monkeypatch):
    """The outbox's clock, which stands still until `clock.now` is set."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(outbox, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def store():
    """A pretended store: `away` and `refuses` say how it answers."""

    class Store:
        away, refuses, got, calls = False, (), [], 0

        def __call__(self, record):
            self.calls += 1
            if self.away:
                raise OSError("no answer")
            if record["n"] in self.refuses:
                raise RefusedError("never")
            self.got.append(record["n"])

    store = Store()
    store.got = []
    return store


def note(n: int, **more) -> dict:
    return {"op": "metrics", "n": n, **more}


def test_the_outbox_keeps_the_order(store, tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.tracking.outbox.RETRY_AFTER_S", 0)
    outbox = Outbox(store, tmp_path, "job")
    store.away, store.refuses = True, (1,)
    for n in range(3):
        outbox.add(note(n))
    store.away = False
    outbox.add(note(3))
    assert store.got == [0, 2, 3]
    assert [record["n"] for record in outbox.refused] == [1]


def test_the_outbox_leaves_a_store_that_failed_alone(store, tmp_path, clock):
    outbox = Outbox(store, tmp_path, "job")
    store.away = True
    for n in range(50):
        outbox.add(note(n))
    assert store.calls == 1
    clock.now += RETRY_AFTER_S
    outbox.add(note(50))
    assert store.calls == 2
    outbox.flush(force=True)
    assert store.calls == 3


def test_the_next_driver_takes_up_what_is_left(store, tmp_path):
    outbox = Outbox(store, tmp_path / "outbox", "job")
    store.away = True
    outbox.add(note(0, values={"a": math.nan, "b": -math.inf, "c": 0.5}))
    outbox.add(note(1))
    assert outbox.undelivered == tmp_path / "outbox" / "job.jsonl"
    lines = outbox.undelivered.read_text().splitlines()
    values = json.loads(lines[0], parse_constant=pytest.fail)["values"]
    assert math.isnan(float(values["a"]))
    assert (float(values["b"]), values["c"]) == (-math.inf, 0.5)

    store.away = False
    other = Outbox(store, tmp_path / "outbox", "job", wanted=lambda record: record["n"] == 1)
    other.flush()
    assert store.got == [1]
    assert other.undelivered is None


def test_a_full_disk_does_not_end_training(store, tmp_path):
    (tmp_path / "file").touch()
    outbox = Outbox(store, tmp_path / "file", "job")  # no folder can be made there
    store.away = True
    outbox.add(note(0))
    store.away = False
    outbox.flush(force=True)
    assert store.got == [0]


# A real server.


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
