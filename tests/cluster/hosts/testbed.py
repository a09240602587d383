"""Three hosts that train, services on hosts of their own, and jobs watched on their way."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from sharding.procedural.raw_faces import write_faces
from stn_icnn.config import TrainConfig
from tests.cluster.hosts.rig import Host, Rig, wait_for
from tests.cluster.hosts.services import (
    MLFLOW_PORT,
    S3_PORT,
    start_driver,
    start_head,
    start_mlflow,
    start_nodes,
    start_postgres,
    start_s3,
)
from tests.cluster.hosts.small_job import PHASES, Figures, result, write_config

NUM_HOSTS = 3
NUM_FACES = 60
TMP_MB = 400
PROXY_PORT = 9000
STUCK_S = 1800.0
"""A job is stuck that has made no progress for so long, seconds."""
RAYLET = str(Path(ray.__file__).parent / "core/src/ray/raylet/raylet")
PROGRESS = re.compile(rf"^(?:{'|'.join(PHASES)}): epoch .*$", re.MULTILINE)
RESTART = re.compile(r"(\d+) workers? go(?:es)? on after (\d+) s, on [\d., ]+(?:; (\d+) steps)?")


class StuckError(RuntimeError):
    """A job made no progress for too long."""


@dataclass
class Testbed:
    """The hosts and services of a series of runs, which outlive each of them."""

    rig: Rig
    head: Host = field(init=False)
    s3: Host = field(init=False)
    mlflow: Host = field(init=False)
    postgres: Host = field(init=False)
    workers: list[Host] = field(init=False)
    database: str = field(init=False)
    tracking_uri: str = field(init=False)

    def start(self) -> None:
        """Starts everything, and shards the faces into the bucket."""
        names = ("head", "s3", "mlflow", "postgres")
        self.head, self.s3, self.mlflow, self.postgres = map(self.rig.add, names)
        self.workers = [self.rig.add(f"w{i + 1}", tmp_mb=TMP_MB) for i in range(NUM_HOSTS)]
        start_s3(self.s3, "runs", "shards")
        self.database = start_postgres(self.postgres)
        self.tracking_uri = start_mlflow(self.mlflow, self.database)
        raw = self.rig.folder / "raw"
        write_faces("helen", NUM_FACES, raw, size_px=96, workers=1)
        places = ("--source", str(raw), "--out", "s3://shards/faces")
        self.head.run(sys.executable, "-m", "sharding", "helen", *places, timeout_s=900)
        for host, port in ((self.s3, S3_PORT), (self.mlflow, MLFLOW_PORT)):
            proxy = str(Path(__file__).with_name("proxy.py"))
            service = f"{host.address}:{port}"
            host.start(sys.executable, proxy, str(PROXY_PORT), service, log="proxy.log")
        start_head(self.head)
        start_nodes(*self.workers)

    def restore(self) -> None:
        """Starts the nodes that are not there."""
        gone = [host for host in self.workers if not host.processes(RAYLET)]
        for host in gone:
            host.kill()
        start_nodes(*gone)

    def job(self, name: str, config: TrainConfig, options: dict[str, str]) -> "WatchedJob":
        """Returns a job that is not started yet."""
        given = {
            "--config": str(write_config(self.rig.folder / f"{name}.json", config)),
            "--data": "s3://shards/faces",
            "--storage": "s3://runs",
            "--tracking-uri": self.tracking_uri,
            "--run-name": name,
            "--scaling.max-failures": "30",
            **options,
        }
        words = [word for option in given.items() for word in option]
        return WatchedJob(self, name, ["jobs/e2e.py", *words])

    def figures(self, job: "WatchedJob") -> Figures:
        """All figures that a job, which has ended, has in MLflow."""
        run_id = result(job.log)["run_id"]
        asking = ("-m", "tests.cluster.hosts.small_job", self.tracking_uri, run_id)
        told: Figures = json.loads(self.head.run(sys.executable, *asking))
        return told


@dataclass
class WatchedJob:
    """A job whose driver runs on the head's host, and is submitted again where it fails."""

    bed: Testbed
    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    num_submitted: int = 0
    driver: subprocess.Popen | None = None

    @property
    def log(self) -> str:
        """What its drivers have printed, one after another."""
        path = self.bed.head.folder / f"{self.name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def submit(self) -> None:
        """Starts its driver, or a further one."""
        self.num_submitted += 1
        log = f"{self.name}.log"
        self.driver = start_driver(self.bed.head, *self.command, log=log, **self.environment)

    def stop(self, signal_number: int) -> None:
        """Stops its driver."""
        self.bed.head.kill(f"{sys.executable} jobs/e2e.py", signal_number)
        assert self.driver is not None
        self.driver.wait(timeout=300)

    @property
    def progress(self) -> int:
        """The number of checkpoints and epochs that it has told of."""
        return len(PROGRESS.findall(self.log))

    def has_ended(self) -> bool:
        """Whether it has come to its end; one that has failed is submitted again."""
        assert self.driver is not None
        status = self.driver.poll()
        if status:
            self.submit()
        return status == 0

    def goes_on_until(self, happened: Callable[[], Any], what: str) -> bool:
        """Waits until something has happened; returns False where the job has ended before.

        Raises:
            StuckError: where neither came.
        """
        ended = False

        def is_over() -> bool:
            nonlocal ended
            ended = self.has_ended()
            return ended or bool(happened())

        try:
            wait_for(is_over, what, STUCK_S, poll_s=0.5)
        except TimeoutError as error:
            raise StuckError(f"{self.name}: {error}") from error
        return not ended

    def makes_progress(self) -> bool:
        """Waits for the next checkpoint; returns False where the job has ended instead."""
        before = self.progress
        return self.goes_on_until(lambda: self.progress > before, "a checkpoint")

    def restarts(self, since: int) -> list[tuple[int, int, int]]:
        """Workers, seconds and repeated steps of the restarts told from a place in the log on."""
        found = RESTART.findall(self.log[since:])
        return [(int(num), int(seconds), int(steps or 0)) for num, seconds, steps in found]
