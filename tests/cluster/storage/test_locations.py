import http.server
import os
import socket
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from cluster.storage import locations as places
from cluster.storage.locations import TrackingUnavailableError
from sharding.storage.s3 import Bucket
from stn_icnn.storage import Folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (places.STORAGE_ENV, places.TRACKING_ENV, places.CACHE_ENV):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    yield tmp_path / "data" / "stn-icnn"
    assert not list(working.iterdir()), "something was left in the working directory"


def test_data_home_is_in_the_user_s_home_unless_xdg_says_otherwise(monkeypatch, tmp_path, home):
    assert places.data_home() == home
    monkeypatch.setenv("HOME", str(tmp_path))
    for ignored in ("", "relative/place"):
        monkeypatch.setenv("XDG_DATA_HOME", ignored)
        assert places.data_home() == tmp_path / ".local/share/stn-icnn"


def test_cache_home_is_named_or_in_the_user_s_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert places.cache_home() == tmp_path / ".cache/stn-icnn"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert places.cache_home() == Path("/xdg/stn-icnn")
    monkeypatch.setenv("STN_ICNN_CACHE", "/scratch/mine")
    assert places.cache_home() == Path("/scratch/mine")
    monkeypatch.setenv("STN_ICNN_CACHE", "mine")
    with pytest.raises(ValueError, match="STN_ICNN_CACHE must be an absolute path, got 'mine'"):
        places.cache_home()


def test_storage_argument_then_environment_then_home(monkeypatch, tmp_path, home):
    assert places.resolve_storage() == Folder(home / "storage")
    monkeypatch.setenv("STN_ICNN_STORAGE", str(tmp_path / "env"))
    assert places.resolve_storage() == Folder(tmp_path / "env")
    assert places.resolve_storage(str(tmp_path / "given")) == Folder(tmp_path / "given")
    assert all((tmp_path / made).is_dir() for made in ("env", "given"))


def test_storage_in_a_bucket_is_kept_and_a_relative_folder_made_absolute(tmp_path, monkeypatch):
    assert places.resolve_storage("s3://bucket/some/prefix/") == Bucket("bucket", "some/prefix")
    monkeypatch.chdir(tmp_path)
    assert places.resolve_storage("there") == Folder(tmp_path / "there")


@pytest.mark.parametrize("storage", ["gs://bucket/x", "s3://", "s3:///prefix", "file:///tmp/x"])
def test_storage_refuses_what_it_cannot_use(storage):
    with pytest.raises(ValueError, match=r"storage must be a folder or s3://BUCKET/PREFIX, got"):
        places.resolve_storage(storage)


def test_storage_refuses_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"the storage folder .*/file/x cannot be made"):
        places.resolve_storage(str(tmp_path / "file" / "x"))


def test_tracking_argument_then_environment_then_home(monkeypatch, home, tmp_path):
    assert places.resolve_tracking_uri() == f"sqlite:///{home}/mlflow.db"
    assert home.is_dir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000/")
    assert places.resolve_tracking_uri() == "http://mlflow:5000"
    given = f"sqlite:///{tmp_path}/x/runs.db?timeout=5"
    assert places.resolve_tracking_uri(given) == given


def test_a_relative_sqlite_file_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert places.resolve_tracking_uri("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"


@pytest.mark.parametrize(
    "uri", ["mlruns", "/abs/mlruns", "file:///abs", "sqlite://", "ftp://h", "http://", "databricks"]
)
def test_tracking_refuses_what_it_cannot_use(uri):
    with pytest.raises(ValueError, match=r"the tracking URI must be http\(s\)://HOST:PORT"):
        places.resolve_tracking_uri(uri)


def test_artifacts_lie_beside_a_sqlite_file_and_where_a_server_says(home, tmp_path):
    uri = places.resolve_tracking_uri()
    assert places.artifact_location(uri) == str(home / "mlartifacts")
    assert (home / "mlartifacts").is_dir()
    assert places.artifact_location("http://mlflow:5000") is None
    with pytest.raises(ValueError, match="a postgresql database holds no artifacts"):
        places.artifact_location("postgresql+psycopg://mlflow@db/mlflow")


def test_probe_refuses_a_closed_port_at_once_and_names_it():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for uri in (f"http://{address}", f"postgresql://mlflow:secret@{address}/mlflow"):
            start = time.monotonic()
            with pytest.raises(TrackingUnavailableError, match=address) as caught:
                places.probe_tracking(uri)
            assert time.monotonic() - start < 3
            assert "refused" in str(caught.value)
            assert "MLFLOW_TRACKING_URI" in str(caught.value)
            assert "secret" not in str(caught.value)


def test_probe_does_not_wait_for_a_server_that_hangs(monkeypatch):
    monkeypatch.setattr(places, "PROBE_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(TrackingUnavailableError, match="timed out"):
            places.probe_tracking(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - start < 3


def test_probe_takes_any_http_answer_for_somebody_there():
    class NotFound(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), NotFound) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        places.probe_tracking(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_probe_refuses_a_file_that_is_no_database(tmp_path):
    (tmp_path / "mlflow.db").write_text("these are not the bytes of a database " * 10)
    with pytest.raises(TrackingUnavailableError, match="not a database; check that the file"):
        places.probe_tracking(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_probe_refuses_a_file_that_cannot_be_written(tmp_path):
    path = tmp_path / "mlflow.db"
    sqlite3.connect(path).execute("CREATE TABLE t (x)")
    path.chmod(0o400)
    with pytest.raises(TrackingUnavailableError, match="readonly"):
        places.probe_tracking(f"sqlite:///{path}")


def test_client_defaults_leave_what_the_user_set(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "")  # so that monkeypatch restores it
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
    places.set_client_defaults()
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"


def test_a_submitted_job_s_own_copy_is_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray deletes it with the job."""
    copy = tmp_path / "working_dir_files" / "_ray_pkg_0123456789abcdef"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(ValueError, match=r"storage folder runs is relative, .* temporary copy"):
        places.resolve_storage("runs")
    assert places.resolve_storage(str(tmp_path / "runs")) == Folder(tmp_path / "runs")
