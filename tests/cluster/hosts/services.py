"""What a rig's hosts serve: Ray, S3, MLflow on PostgreSQL."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.hosts.rig import WAIT_S, Host, Rig, wait_for

RAY_PORT, S3_PORT, MLFLOW_PORT, POSTGRES_PORT = 6379, 5500, 5000, 5432
ATTEMPTS = 3
OBJECT_STORE_BYTES = "80000000"
_AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
_ASK = "import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)"
_PUT = "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], method='PUT'), timeout=9)"


def start_head(host: Host, num_cpus: int = 0) -> None:
    """Starts Ray's head node on a host; what the rig starts from now on joins this cluster."""
    _start([host], num_cpus, ("--head", f"--port={RAY_PORT}", "--dashboard-host=127.0.0.1"))
    host.rig.variables["RAY_ADDRESS"] = f"{host.address}:{RAY_PORT}"


def start_nodes(*hosts: Host, num_cpus: int = 1) -> None:
    """Starts a worker node of Ray on each host, also after its processes were killed."""
    if hosts:
        _start(hosts, num_cpus, [f"--address={hosts[0].rig.variables['RAY_ADDRESS']}"], ATTEMPTS)


def _start(hosts: Sequence[Host], num_cpus: int, options: Sequence[str], attempts: int = 1) -> None:
    """Starts Ray's nodes, and again those that do not come up, as on a machine that is busy."""
    limits = (f"--num-cpus={num_cpus}", f"--object-store-memory={OBJECT_STORE_BYTES}")
    for _ in range(attempts):
        starting = {}
        for host in hosts:
            own = f"--node-ip-address={host.address}"
            starting[host.name] = host.start("ray", "start", *options, own, *limits, log="ray.log")
        hosts = [host for host in hosts if starting[host.name].wait(timeout=WAIT_S) != 0]
        for host in hosts:
            host.kill()
    assert not hosts, f"no node on {[host.name for host in hosts]}: see ray.log there"


def start_s3(host: Host, *buckets: str) -> None:
    """Starts an S3 server with some buckets, and gives its address to the rig's processes."""
    host.start("moto_server", "-H", host.address, "-p", str(S3_PORT), log="s3.log")
    address = f"http://{host.address}:{S3_PORT}"
    wait_for(lambda: answers(host, address), "S3 answers")
    for bucket in buckets:
        host.run(sys.executable, "-c", _PUT, f"{address}/{bucket}")
    host.rig.variables |= {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def start_mlflow(host: Host, store: str) -> str:
    """Starts an MLflow server over a database, and returns its address."""
    options = {
        "--backend-store-uri": store,
        "--artifacts-destination": f"{host.folder}/home/artifacts",
        "--host": host.address,
        "--port": str(MLFLOW_PORT),
        "--workers": "1",
        "--allowed-hosts": "*",
    }
    words = [word for option in options.items() for word in option]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    host.start("mlflow", "server", *words, log="mlflow.log", environment=quiet)
    address = f"http://{host.address}:{MLFLOW_PORT}"
    wait_for(lambda: answers(host, f"{address}/health"), "MLflow answers")
    return address


def stop_mlflow(host: Host) -> None:
    """Kills the MLflow server, of which every process names its port."""
    for pid in host.processes():
        if f"{MLFLOW_PORT}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def answers(host: Host, address: str) -> bool:
    """Whether a server answers, as seen from a host."""
    asking = subprocess.run(
        host.inside(sys.executable, "-Sc", _ASK, address), capture_output=True, env={}
    )
    return asking.returncode == 0


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's own programs, the newest version's, where it is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    beside = shutil.which("initdb")
    return found[-1].parent if found else Path(beside).parent if beside else None


def start_postgres(host: Host) -> str:
    """Starts a PostgreSQL server, as the user `postgres`; returns the address of its database."""
    programs = postgres_programs()
    assert programs is not None
    folder = host.folder / "postgres"
    if not folder.exists():
        folder.mkdir()
        shutil.chown(folder, "postgres", "postgres")
        trust = ("-A", "trust", "-U", "mlflow", "-E", "UTF8", "--locale=C")
        host.run(*_AS_POSTGRES, f"{programs}/initdb", "-D", str(folder), *trust)
        with (folder / "pg_hba.conf").open("a") as file:
            file.write("host all all 10.77.0.0/24 trust\n")
    options = f"-h {host.address} -p {POSTGRES_PORT} -k {folder}"
    start = ("-D", str(folder), "-o", options, "-l", f"{folder}/log", "-w", "start")
    host.run(*_AS_POSTGRES, f"{programs}/pg_ctl", *start)
    return f"postgresql://mlflow@{host.address}:{POSTGRES_PORT}/postgres"


def stop_postgres(host: Host) -> None:
    """Stops the PostgreSQL server, as a machine that fails does."""
    stop = ("-D", str(host.folder / "postgres"), "-m", "immediate", "-w", "stop")
    host.run(*_AS_POSTGRES, f"{postgres_programs()}/pg_ctl", *stop)


def start_driver(
    host: Host, *command: str, log: str = "job.log", **environment: str
) -> subprocess.Popen:
    """Starts a job's driver on a host, in the project's folder."""
    return host.start(sys.executable, *command, log=log, environment=environment)


def train_workers(rig: Rig) -> dict[str, list[int]]:
    """The processes of Ray Train's workers, by the name of their host."""
    found = {name: host.processes("ray::RayTrainWorker") for name, host in rig.hosts.items()}
    return {name: pids for name, pids in found.items() if pids}
