"""The services of a local cluster: what each is started with, and how it shows that it answers.

All listen on loopback alone. Ray does so with `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0`, which makes it
take the loopback address for the node's, as on those systems; otherwise its ports are open to the
network, whatever address it is given. Its token keeps out other users of this machine.
"""

import importlib.util
import os
import secrets
import signal
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cluster.local.ports import HOST, TIMEOUT_S, Ports, free_port
from stn_icnn.extras import describe_missing

BUCKET: Final = "stn-icnn"

_OWN_PREFIXES: Final = ("AWS_", "MLFLOW_", "RAY_", "STN_ICNN_")
"""Environment variables that begin so are the user's for other clusters: none goes to this one."""


@dataclass(frozen=True)
class Service:
    """A service of the cluster."""

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those of all services."""
    user: str | None = None
    """Who it runs as; None: the user who starts it."""
    end: signal.Signals = signal.SIGTERM
    """The signal that ends it."""


def base_environment(temporary: Path) -> dict[str, str]:
    """Returns the environment that all services have: this one without what is of other clusters.

    Args:
        temporary: the folder for temporary files.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_OWN_PREFIXES)}
    programs = Path(sys.executable).parent  # the jobs' `python` is the one of this installation
    path = f"{programs}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return {**kept, "PATH": path, "TMPDIR": str(temporary)}


def bucket_environment(ports: Ports) -> dict[str, str]:
    """Returns the variables of a client of the S3 server, which takes any keys."""
    return {
        "AWS_ENDPOINT_URL": ports.s3_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def job_environment(ports: Ports, folder: Path) -> dict[str, str]:
    """Returns the variables of jobs: where they store, track and cache."""
    return {
        **bucket_environment(ports),
        "MLFLOW_TRACKING_URI": ports.mlflow_url,
        "STN_ICNN_STORAGE": f"s3://{BUCKET}/runs",
        "STN_ICNN_CACHE": str(folder / "cache"),
    }


def client_environment(ports: Ports, token_file: Path) -> dict[str, str]:
    """Returns the variables of the `ray` command, by which it finds the cluster and is let in."""
    return {
        "RAY_API_SERVER_ADDRESS": ports.dashboard_url,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
    }


def s3_service(ports: Ports) -> Service:
    """Returns the S3 server to try things with: moto's, which keeps objects in memory.

    Raises:
        ValueError: where it is not installed.
    """
    if importlib.util.find_spec("moto") is None:
        raise ValueError(describe_missing("the S3 server to try things with", "moto", "test"))
    command = (sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(ports.s3))
    return Service("S3", command, lambda: _answers(f"{ports.s3_url}/moto-api/"))


def make_bucket(ports: Ports) -> None:
    """Makes the bucket of the cluster; the server asks for no signature."""
    request = urllib.request.Request(f"{ports.s3_url}/{BUCKET}", method="PUT")
    urllib.request.urlopen(request, timeout=TIMEOUT_S).close()


def ray_service(ports: Ports, folder: Path, temporary: Path, num_cpus: int | None) -> Service:
    """Returns the Ray head, with its dashboard, which takes jobs.

    Args:
        ports: where services listen.
        folder: the cluster's folder, with the token in it.
        temporary: a folder with a short path, as Ray makes sockets in it.
        num_cpus: how many CPUs it counts with; None: the machine's.
    """
    token_file = token_path(folder)
    taken: set[int] = {*vars(ports).values()}
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
        *(f"--port={ports.ray}", "--disable-usage-stats"),
        *(f"--dashboard-host={HOST}", f"--dashboard-port={ports.dashboard}"),
        f"--dashboard-agent-listen-port={free_port(taken)}",
        f"--ray-client-server-port={free_port(taken)}",
        *([] if num_cpus is None else [f"--num-cpus={num_cpus}"]),
    ]
    environment = {
        **job_environment(ports, folder),
        **client_environment(ports, token_file),
        "RAY_TMPDIR": str(temporary),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    version = f"{ports.dashboard_url}/api/version"
    authorization = {"Authorization": f"Bearer {token_file.read_text()}"}
    return Service("Ray", tuple(command), lambda: _answers(version, authorization), environment)


def mlflow_service(ports: Ports, store: str) -> Service:
    """Returns the MLflow server, which keeps artifacts in the bucket.

    Args:
        ports: where services listen.
        store: the address of its database; it may hold a password, so it is in no command line.
    """
    command = (
        *(sys.executable, "-m", "mlflow", "server", "--workers=1"),
        *(f"--host={HOST}", f"--port={ports.mlflow}"),
        f"--artifacts-destination=s3://{BUCKET}/mlflow",
    )
    environment = {
        **bucket_environment(ports),
        "MLFLOW_S3_ENDPOINT_URL": ports.s3_url,
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes more
    }
    return Service("MLflow", command, lambda: _answers(f"{ports.mlflow_url}/health"), environment)


def token_path(folder: Path) -> Path:
    """Returns the file that holds Ray's token."""
    return folder / "ray-token"


def make_token(folder: Path) -> None:
    """Makes Ray's token, which only this user can read."""
    write_secret(token_path(folder), secrets.token_hex(32))


def write_secret(path: Path, text: str) -> None:
    """Writes a file that only this user can read."""
    path.touch(mode=0o600)
    path.write_text(text)


def _answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
    except OSError:
        return False
    return True
