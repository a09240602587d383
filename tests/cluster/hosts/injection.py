"""The faults that are injected into a job on a testbed, and what is told of each."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tests.cluster.hosts.rig import Host
from tests.cluster.hosts.services import (
    start_mlflow,
    start_nodes,
    start_postgres,
    stop_mlflow,
    stop_postgres,
    train_workers,
)
from tests.cluster.hosts.testbed import RAYLET, Testbed, WatchedJob

WORKER = "ray::RayTrainWorker"
NODE_IS_LOST_S = (5, 120)
SERVICE_IS_AWAY_S = (10, 120)
DRAIN_S = 40
FULL_S = 60


@dataclass(frozen=True)
class Told:
    """What came of a fault."""

    happened: str
    lost_steps: int
    """Steps that were done again."""
    seconds: float
    """From the fault's end, or from the fault where it has none, to the next checkpoint."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Injector:
    """Injects faults into a job that makes progress."""

    bed: Testbed
    job: WatchedJob
    dice: random.Random

    def inject(self, kind: str) -> Told:
        """Injects a fault of a kind, and waits until the job goes on or has ended."""
        before, submitted = len(self.job.log), self.job.num_submitted
        happened = _KINDS[kind](self)
        ended_at = time.monotonic()
        if kind in RESTARTS:  # reports that were on their way are no sign of a restart
            self.job.goes_on_until(lambda: self.job.restarts(before), "a restart")
        goes_on = self.job.makes_progress()
        seconds = time.monotonic() - ended_at
        restarts = self.job.restarts(before)
        if restarts:
            sizes = ", ".join(str(num) for num, _, _ in restarts)
            happened += f"; restarted with {sizes} workers"
        again = self.job.num_submitted - submitted - (kind == "driver")
        if again:
            happened += f"; submitted again {again} times"
        if not goes_on:
            happened += "; it came to its end"
        return Told(happened, sum(steps for _, _, steps in restarts), round(seconds, 1))

    def worker(self) -> str:
        """Kills a training process."""
        self.job.goes_on_until(lambda: train_workers(self.bed.rig), "training processes")
        training = sorted(train_workers(self.bed.rig))
        if not training:
            return "none killed: the job was over"
        host = self.bed.rig.hosts[self.dice.choice(training)]
        return f"{host.kill(WORKER)} process killed on {host.name}"

    def raylet(self) -> str:
        """Kills Ray's own process on a node, which is started again at once."""
        host = self._node()
        host.kill(RAYLET)
        self._start_again(host)
        return f"node {host.name} killed and started again"

    def cut(self) -> str:
        """Cuts a node's link for a while."""
        host, seconds = self._node(), self.dice.uniform(*NODE_IS_LOST_S)
        self._away(host, seconds)
        if lost := not host.processes(RAYLET):
            self._start_again(host)
        return f"link of {host.name} cut for {seconds:.0f} s{', the node started again' * lost}"

    def gone(self) -> str:
        """Kills all of a node, for good."""
        host = self._node()
        host.kill()
        return f"node {host.name} gone for good"

    def late(self) -> str:
        """Kills all of a node, which comes back once the job goes on without it."""
        host, before = self._node(), len(self.job.log)
        host.kill()
        self.job.goes_on_until(lambda: self.job.restarts(before), "a restart without the node")
        start_nodes(host)
        fewer = len(self.job.restarts(before))
        grown = self.job.goes_on_until(lambda: len(self.job.restarts(before)) > fewer, "growth")
        return f"node {host.name} gone, and back late{'' if grown else ': the job was over'}"

    def drain(self) -> str:
        """Tells a node that it will be gone, then kills it, and starts it again."""
        host, before = self._node(), len(self.job.log)
        why = ("--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=told to go")
        host.run("ray", "drain-node", *why, f"--deadline-remaining-seconds={DRAIN_S}")
        time.sleep(DRAIN_S)
        host.kill()
        self._start_again(host)
        written = "a checkpoint is written" in self.job.log[before:]
        return f"node {host.name} told to go{', a checkpoint written' * written}"

    def driver(self) -> str:
        """Stops the driver, one way or the other, and submits it again."""
        number = self.dice.choice([signal.SIGTERM, signal.SIGKILL])
        self.job.stop(number)
        self.job.submit()
        return f"driver stopped by {number.name} and submitted again"

    def away_s3(self) -> str:
        """Takes the bucket off the network for a while."""
        seconds = self.dice.uniform(*SERVICE_IS_AWAY_S)
        self._away(self.bed.s3, seconds)
        return f"S3 away for {seconds:.0f} s"

    def away_mlflow(self) -> str:
        """Stops MLflow's server for a while."""
        seconds = self.dice.uniform(*SERVICE_IS_AWAY_S)
        stop_mlflow(self.bed.mlflow)
        time.sleep(seconds)
        start_mlflow(self.bed.mlflow, self.bed.database)
        return f"MLflow away for {seconds:.0f} s"

    def away_postgres(self) -> str:
        """Stops the database under MLflow for a while."""
        seconds = self.dice.uniform(*SERVICE_IS_AWAY_S)
        stop_postgres(self.bed.postgres)
        time.sleep(seconds)
        start_postgres(self.bed.postgres)
        return f"PostgreSQL away for {seconds:.0f} s"

    def disk(self) -> str:
        """Fills the disk of a node for a while."""
        host = self._node()
        fill = "for d in /tmp $HOME; do cat /dev/zero >$d/full; done 2>/dev/null; true"
        host.run("bash", "-c", fill)
        time.sleep(FULL_S)
        host.run("bash", "-c", "rm -f /tmp/full $HOME/full")
        return f"disk of {host.name} full for {FULL_S} s"

    def closed(self) -> str:
        """Closes the ports between two nodes as their workers start, until the job has ended."""
        one, other = self.dice.sample(self.bed.workers, 2)
        before, submitted = len(self.job.log), self.job.num_submitted
        one.close(other)
        try:
            one.kill(WORKER)
            self.job.goes_on_until(lambda: self.job.num_submitted > submitted, "the job's failure")
        finally:
            one.open(other)
        lines = self.job.log[before:].splitlines()
        said = [line for line in lines if "does not reach" in line]
        return said[0] if said else "no line about it"

    def _node(self) -> Host:
        living = [host for host in self.bed.workers if host.processes(RAYLET)]
        return self.dice.choice(living)

    def _away(self, host: Host, seconds: float) -> None:
        host.cut()
        time.sleep(seconds)
        host.mend()

    def _start_again(self, host: Host) -> None:
        host.kill()
        start_nodes(host)


_KINDS: dict[str, Callable[[Injector], str]] = {
    "worker killed": Injector.worker,
    "raylet killed": Injector.raylet,
    "link cut": Injector.cut,
    "node never returns": Injector.gone,
    "node returns late": Injector.late,
    "node told to go": Injector.drain,
    "driver stopped": Injector.driver,
    "S3 away": Injector.away_s3,
    "MLflow away": Injector.away_mlflow,
    "PostgreSQL away": Injector.away_postgres,
    "disk full": Injector.disk,
    "ports closed": Injector.closed,
}
KINDS = tuple(_KINDS)
RESTARTS = ("worker killed", "raylet killed", "node never returns")
"""The faults that a job survives by a restart of its workers alone."""
