"""A cluster on this machine, to submit jobs to: Ray, MLflow, PostgreSQL and S3, on loopback.

python -m cluster.local up      # make cluster
python -m cluster.local down    # make cluster-down: ends it, and removes what it has stored
"""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cluster.local.local_cluster import STATE_FILE, LocalCluster
from cluster.local.ports import Ports
from cluster.local.postgres import postgres_programs, postgres_service
from cluster.local.processes import PROC
from cluster.local.services import (
    client_environment,
    job_environment,
    make_bucket,
    make_token,
    mlflow_service,
    ray_service,
    s3_service,
    token_path,
)

FOLDER: Final = ".cluster"
"""The folder of a cluster, in the working directory; git and submitted jobs leave it out."""
ENVIRONMENT_FILE: Final = "env"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `up` or `down`, and returns the exit status: 2 on an error."""
    arguments = _parser().parse_args(argv)
    folder = Path(arguments.folder).absolute()
    try:
        if not PROC.is_dir():
            raise ValueError("a local cluster needs Linux: its processes are found in /proc")
        return down(folder) if arguments.command == "down" else up(folder, arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cluster.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start a cluster, or tell of the one that is up")
    for name, port in vars(Ports()).items():
        start.add_argument(
            f"--{name}-port", type=int, default=port, help="default: %(default)s; 0: a free one"
        )
    start.add_argument("--num-cpus", type=int, help="CPUs for jobs (default: the machine's)")
    for command in (start, commands.add_parser("down", help="end it, and remove what it stored")):
        command.add_argument("--folder", default=FOLDER, help="default: %(default)s")
    return parser


def up(folder: Path, arguments: argparse.Namespace) -> int:
    """Starts a cluster, unless it is up, and prints how it is used; returns the exit status.

    Raises:
        ValueError: a port is in use, or something is missing.
        OSError: a service does not start; what was started has been ended.
    """
    if (folder / STATE_FILE).exists():
        cluster = LocalCluster.read(folder)
        lost = cluster.lost()
        if lost or not cluster.is_up:
            what = f"{', '.join(lost)} ended" if lost else "it is being started, or was not"
            raise ValueError(
                f"the cluster in {folder} is not whole ({what}; logs in {folder / 'logs'}): "
                "make cluster-down, then make cluster"
            )
        print("it is up already")
        _tell(cluster)
        return 0
    ports = Ports(**{name: getattr(arguments, f"{name}_port") for name in vars(Ports())}).chosen()
    folder.mkdir(mode=0o711, parents=True)  # PostgreSQL, as another user, reaches its own folder
    temporary = Path(tempfile.mkdtemp(prefix="stn-ray-"))
    cluster = LocalCluster(folder, temporary, ports)
    try:
        _start_services(cluster, arguments.num_cpus)
    except BaseException:
        print("ending what was started", flush=True)
        cluster.end()
        raise
    cluster.is_up = True
    cluster.write()
    _tell(cluster)
    return 0


def _start_services(cluster: LocalCluster, num_cpus: int | None) -> None:
    folder, ports = cluster.folder, cluster.ports
    (folder / "logs").mkdir()
    make_token(folder)
    s3, ray = s3_service(ports), ray_service(ports, folder, cluster.temporary, num_cpus)
    for service in (s3, ray):
        cluster.start(service)
    store = _start_database(cluster)
    cluster.wait_for(s3)
    make_bucket(ports)
    mlflow = mlflow_service(ports, store)
    cluster.start(mlflow)
    for service in (mlflow, ray):
        cluster.wait_for(service)
    variables = client_environment(ports, token_path(folder)) | job_environment(ports, folder)
    path = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH\n"
    lines = (f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    (folder / ENVIRONMENT_FILE).write_text(path + "".join(lines))


def _start_database(cluster: LocalCluster) -> str:
    """Starts PostgreSQL where it can be, and returns the address of MLflow's store."""
    programs, why = postgres_programs()
    if programs is not None:
        try:
            postgres, store = postgres_service(cluster.ports, cluster.folder, programs)
        except OSError as error:
            why = str(error)
        else:
            cluster.database = f"PostgreSQL on port {cluster.ports.postgres}"
            cluster.start(postgres)
            cluster.wait_for(postgres)
            return store
    cluster.database = f"sqlite, without PostgreSQL: {why}"
    return f"sqlite:///{cluster.folder / 'mlflow.db'}"


def down(folder: Path) -> int:
    """Ends the cluster and removes what it stored; returns the exit status.

    Raises:
        TimeoutError: a process does not end.
    """
    if not (folder / STATE_FILE).exists():
        print(f"no cluster was started in {folder}")
        return 0
    LocalCluster.read(folder).end()
    print("ended; nothing of it is left")
    return 0


def _tell(cluster: LocalCluster) -> None:
    """Prints the cluster's addresses and the line that submits a job."""
    folder, ports = cluster.folder, cluster.ports
    here = Path.cwd()
    shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
    places: Mapping[str, str] = {
        "Ray": f"{ports.dashboard_url}, which asks for the token in {shown}/ray-token",
        "MLflow": f"{ports.mlflow_url}, on {cluster.database}",
        "S3": f"{ports.s3_url}, bucket stn-icnn: in memory, to try things out",
        "logs": f"{shown}/logs",
    }
    for word, place in places.items():
        print(f"  {word:7} {place}")
    environment = shlex.quote(os.path.join(".", shown, ENVIRONMENT_FILE))
    print(
        f"submit a job:\n"
        f"  . {environment} && ray job submit --working-dir . -- python jobs/e2e.py demo\n"
        "end it, and lose what it holds:\n"
        "  make cluster-down",
        flush=True,
    )
