"""Where runs are tracked, and whether somebody answers there."""

import http.server
import os
import socket
import sqlite3
import sys
import threading
from pathlib import Path

import pytest

from cluster.tracking import tracking_uri
from cluster.tracking.tracking_uri import TrackingUnavailableError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(tracking_uri.TRACKING_ENV, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    yield tmp_path / "data" / "stn-icnn"
    assert not list(working.iterdir()), "something was left in the working directory"


def test_tracking_argument_then_environment_then_home(monkeypatch, home, tmp_path):
    assert tracking_uri.resolve_tracking_uri() == f"sqlite:///{home}/mlflow.db"
    assert home.is_dir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000/")
    assert tracking_uri.resolve_tracking_uri() == "http://mlflow:5000"
    given = f"sqlite:///{tmp_path}/x/runs.db?timeout=5"
    assert tracking_uri.resolve_tracking_uri(given) == given


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_submitted_job_s_own_copy_is_no_place_for_runs(by, tmp_path, monkeypatch):
    """Ray deletes it with the job: run and artifacts would be lost, with exit status 0."""
    copy = tmp_path / "working_dir_files" / "_ray_pkg_0123456789abcdef"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    uri = "sqlite:///mlflow.db"
    if by == "variable":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    told = rf"the tracking URI {uri} is relative, .* give sqlite:////ABSOLUTE/mlflow\.db"
    with pytest.raises(ValueError, match=told):
        tracking_uri.resolve_tracking_uri(uri if by == "option" else None)
    assert not list(copy.iterdir())
    absolute = f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking_uri.resolve_tracking_uri(absolute) == absolute


def test_a_relative_sqlite_file_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracking_uri.resolve_tracking_uri("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"


@pytest.mark.parametrize(
    "uri", ["mlruns", "/abs/mlruns", "file:///abs", "sqlite://", "ftp://h", "http://", "databricks"]
)
def test_tracking_refuses_what_it_cannot_use(uri):
    with pytest.raises(ValueError, match=r"the tracking URI must be http\(s\)://HOST:PORT"):
        tracking_uri.resolve_tracking_uri(uri)


def test_a_database_whose_driver_is_missing_is_refused_naming_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=r"psycopg.*pip install 'stn-icnn\[postgres\]'") as caught:
        tracking_uri.resolve_tracking_uri("postgresql://mlflow:secret@db/mlflow")
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match=r"postgresql\+nosuch.*nosuch"):
        tracking_uri.resolve_tracking_uri("postgresql+nosuch://db/mlflow")


def test_a_database_with_its_driver_is_used_as_it_is_given():
    pytest.importorskip("psycopg")
    given = "postgresql+psycopg://mlflow:secret@db/mlflow"
    assert tracking_uri.resolve_tracking_uri(given) == given


def test_artifacts_lie_beside_a_sqlite_file_and_where_a_server_says(home, tmp_path):
    uri = tracking_uri.resolve_tracking_uri()
    assert tracking_uri.artifact_location(uri) == str(home / "mlartifacts")
    assert (home / "mlartifacts").is_dir()
    assert tracking_uri.artifact_location("http://mlflow:5000") is None
    with pytest.raises(ValueError, match="a postgresql database holds no artifacts"):
        tracking_uri.artifact_location("postgresql+psycopg://mlflow@db/mlflow")


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """The port of each connection that is tried, and for how many seconds it may be."""
    connect, found = socket.create_connection, []

    def noted(address, timeout=None, *others, **more):
        found.append((address[1], timeout))
        return connect(address, timeout, *others, **more)

    monkeypatch.setattr(socket, "create_connection", noted)
    return found


def test_probe_refuses_a_closed_port_at_once_and_names_it(tried):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        port = taken.getsockname()[1]
        address = f"127.0.0.1:{port}"
        for uri in (f"http://{address}", f"postgresql://mlflow:secret@{address}/mlflow"):
            tried.clear()
            with pytest.raises(TrackingUnavailableError, match=address) as caught:
                tracking_uri.probe_tracking(uri)
            assert tried == [(port, tracking_uri.PROBE_TIMEOUT_S)], "not once"
            assert "refused" in str(caught.value)
            assert "MLFLOW_TRACKING_URI" in str(caught.value)
            assert "secret" not in str(caught.value)


def test_probe_does_not_wait_for_a_server_that_hangs(monkeypatch, tried):
    monkeypatch.setattr(tracking_uri, "PROBE_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(TrackingUnavailableError, match="timed out"):
            tracking_uri.probe_tracking(f"http://127.0.0.1:{port}")
    assert tried == [(port, 0.3)]


def test_probe_takes_any_http_answer_for_somebody_there():
    class NotFound(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), NotFound) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tracking_uri.probe_tracking(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_probe_refuses_a_file_that_is_no_database(tmp_path):
    (tmp_path / "mlflow.db").write_text("these are not the bytes of a database " * 10)
    with pytest.raises(TrackingUnavailableError, match="not a database; check that the file"):
        tracking_uri.probe_tracking(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_probe_refuses_a_file_that_cannot_be_written(tmp_path):
    path = tmp_path / "mlflow.db"
    sqlite3.connect(path).execute("CREATE TABLE t (x)")
    path.chmod(0o400)
    with pytest.raises(TrackingUnavailableError, match="readonly"):
        tracking_uri.probe_tracking(f"sqlite:///{path}")


def test_client_defaults_leave_what_the_user_set(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "")  # so that monkeypatch restores it
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
    tracking_uri.set_client_defaults()
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
