"""`make cluster`: brought up, used as it says, looked through for secrets, and brought down."""

import contextlib
import io
import json
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

from cluster.local import command, services
from cluster.local.command import main
from cluster.local.local_cluster import LocalCluster
from cluster.local.ports import Ports
from sharding.storage import s3
from sharding.storage.location import open_location

ROOT = Path(__file__).parents[3]
FREE = [word for name in vars(Ports()) for word in (f"--{name}-port", "0")]

TRAINING = (
    "--run-name one --scaling.num-workers 1 --optim.global-batch 4 --optim.epochs-coarse 1 "
    "--optim.epochs-localizer 1 --optim.epochs-end-to-end 1"
)
# Drawn here, as this file itself goes to the cluster with the job.
PLANTED = {name: secrets.token_hex(16) for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_URI")}


@dataclass
class Used:
    """A cluster that was up."""

    told: str
    """What `up` has printed."""
    told_again: str
    status: int
    """The status of the command that it has told."""
    job: str
    """What that job has printed."""
    runs: dict[str, str]
    """The status of each run in MLflow."""
    secrets: dict[str, str]
    written: dict[str, bytes]
    """What was written, by place: logs, databases, objects of the bucket."""
    left: list[str]
    """What is there yet after `down`: processes, folders, listeners."""


@pytest.fixture(scope="module")
def used(shards: Path) -> Iterator[Used]:
    # PostgreSQL's own user gets into this folder, which it does not into pytest's.
    top = Path(tempfile.mkdtemp(prefix="local-"))
    top.chmod(0o711)
    folder = top / "cluster"
    try:
        with pytest.MonkeyPatch.context() as patch:
            yield _use(folder, shards, patch)
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            main(["down", "--folder", str(folder)])
        shutil.rmtree(top)


def _use(folder: Path, shards: Path, patch: pytest.MonkeyPatch) -> Used:
    jobs_own = services.job_environment

    def with_secrets(ports: Ports, folder: Path) -> dict[str, str]:
        address = f"http://someone:{PLANTED['MLFLOW_TRACKING_URI']}@127.0.0.1:{ports.mlflow}"
        return jobs_own(ports, folder) | PLANTED | {"MLFLOW_TRACKING_URI": address}

    for module in (services, command):
        patch.setattr(module, "job_environment", with_secrets)
    told = _printed("up", "--num-cpus", "1", *FREE, "--folder", str(folder))
    told_again = _printed("up", "--folder", str(folder))
    line = re.findall(r"\n  (\. .*ray job submit .*)", told)[0]
    job = subprocess.run(
        f"{line} --data {shards} {TRAINING}",
        shell=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
    )
    cluster = LocalCluster.read(folder)
    client = mlflow.MlflowClient(cluster.ports.mlflow_url)
    experiment = client.get_experiment_by_name("stn-icnn")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    for name, value in jobs_own(cluster.ports, folder).items():
        patch.setenv(name, value)
    s3._client.cache_clear()
    known = {**PLANTED, "Ray's token": (folder / "ray-token").read_text()}
    environment = Path(f"/proc/{cluster.processes['MLflow'].pid}/environ").read_text()
    if password := re.search(r"postgresql://mlflow:(.*)@", environment):
        known["PostgreSQL's password"] = password[1]
    written = _written(cluster)
    s3._client.cache_clear()
    _printed("down", "--folder", str(folder))
    return Used(
        told,
        told_again,
        job.returncode,
        job.stdout,
        {str(run.info.run_name): run.info.status for run in runs},
        known,
        written,
        _left(cluster),
    )


def _printed(*arguments: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(arguments) == 0
    return f"\n{printed.getvalue()}"


def _written(cluster: LocalCluster) -> dict[str, bytes]:
    """All files of the cluster but the two that say that they hold secrets, and all objects."""
    own = {cluster.folder / "ray-token", cluster.folder / "env"}
    files = [
        path
        for top in (cluster.folder, cluster.temporary)
        for path in top.rglob("*")
        if path.is_file() and path not in own
    ]
    bucket = open_location(f"s3://{services.BUCKET}")
    return {str(path): path.read_bytes() for path in files} | {
        path: bucket.read(path) for path in bucket.list()
    }


def _left(cluster: LocalCluster) -> list[str]:
    marks = [str(cluster.folder).encode(), str(cluster.temporary).encode()]
    left = [str(path) for path in (cluster.folder, cluster.temporary) if path.exists()]
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            about = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if any(mark in about for mark in marks):
                left.append(about[:200].decode(errors="replace"))
    for name, port in vars(cluster.ports).items():
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            left.append(f"{name} listens")
    return left


@pytest.mark.ray
@pytest.mark.slow
def test_the_line_that_it_tells_submits_a_job_which_is_tracked(used: Used) -> None:
    assert used.status == 0, used.job
    assert set(used.runs.values()) == {"FINISHED"}
    assert used.runs.keys() == {"one", "one/coarse", "one/localizer", "one/end_to_end"}
    assert {"runs/one/run.json"} <= used.written.keys()  # in the bucket


@pytest.mark.ray
@pytest.mark.slow
def test_brought_up_twice_it_is_the_same_one(used: Used) -> None:
    after = used.told.partition("  Ray ")[2]
    assert after
    assert used.told_again == f"\nit is up already\n  Ray {after}"


@pytest.mark.ray
@pytest.mark.slow
def test_no_secret_is_written_anywhere(used: Used) -> None:
    """Neither by jobs nor by the services, in no log, record, object or database."""
    places = {**used.written, "told": used.told.encode(), "job": used.job.encode()}
    found = [
        (name, place)
        for name, secret in used.secrets.items()
        for place, content in places.items()
        if secret.encode() in content
    ]
    assert not found
    # The search finds what is there.
    assert any(json.dumps("one").encode() in content for content in used.written.values())


@pytest.mark.ray
@pytest.mark.slow
def test_brought_down_nothing_of_it_is_left(used: Used) -> None:
    assert not used.left


def test_a_port_in_use_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        folder = tmp_path / "cluster"
        status = main(["up", *FREE, "--mlflow-port", str(port), "--folder", str(folder)])
    assert status == 2
    assert f"port {port} (mlflow) is in use" in capsys.readouterr().err
    assert not folder.exists()
