"""Processes that train together as a job's workers do: real processes, real gradients' sums.

They live as long as a measurement and work in turn with others, each time a round.
"""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
import torch.distributed as dist

from benchmarks.measure import DEVICE
from benchmarks.subjects import Setup, Training
from cluster.training.phase_runs import LEAST_IMAGES_A_WORKER
from cluster.workers.ray_cluster import KEEP_MEMORY
from cluster.workers.ray_context import RayContext
from stn_icnn.context import Metrics
from stn_icnn.studies.timing import Work
from stn_icnn.training.phases import PhaseName

TIMEOUT = timedelta(minutes=5)


def usual_workers(setup: Setup) -> int:
    """As many as a job on this machine has if nothing is said."""
    if DEVICE.type == "cuda":
        return 1
    return max(
        1, min(torch.get_num_threads(), setup.config.optim.global_batch // LEAST_IMAGES_A_WORKER)
    )


class BenchContext(RayContext):
    """A worker's wrapping and sums, without Ray around it."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size, self.device = rank, world_size, DEVICE

    def report(self, metrics: Metrics, checkpoint_dir: Path | None) -> None:
        """Nobody listens."""


class Team:
    """Workers of one phase, the cores shared out among them.

    Attributes:
        wait_shares: what the first worker waited for data, as a share of each round from shards.
    """

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections
        self.wait_shares: list[float] = []

    def work(self, name: str) -> Work:
        """A round of a method of `Training`, by all."""

        def round_of_all() -> None:
            for connection in self._connections:
                connection.send(name)
            # EOFError where a worker has died: its traceback is printed
            waited = [connection.recv() for connection in self._connections]
            if name == "from_shards":
                self.wait_shares.append(waited[0])

        return round_of_all


@contextmanager
def team(setup: Setup, phase: PhaseName, world_size: int, cores: int) -> Iterator[Team]:
    """Starts workers with a share each of some cores, in the environment that a job's have."""
    spawn = multiprocessing.get_context("spawn")
    connections, processes = [], []
    with TemporaryDirectory() as folder, patch.dict(os.environ, KEEP_MEMORY):
        try:
            for rank in range(world_size):
                ours, theirs = spawn.Pipe()
                arguments = (setup, phase, rank, world_size, cores, f"file://{folder}/met", theirs)
                processes.append(spawn.Process(target=_worker, args=arguments, daemon=True))
                processes[-1].start()
                theirs.close()
                connections.append(ours)
            yield Team(connections)
        finally:
            for process in processes:
                process.terminate()
                process.join()


def _worker(
    setup: Setup,
    phase: PhaseName,
    rank: int,
    world_size: int,
    cores: int,
    meet_at: str,
    parent: Connection,
) -> None:
    """Does a round of what it is told, with its share of the cores."""
    torch.set_num_threads(max(1, cores // world_size))
    if world_size > 1:
        dist.init_process_group(
            "gloo", init_method=meet_at, rank=rank, world_size=world_size, timeout=TIMEOUT
        )
    subject = Training(setup, phase, BenchContext(rank, world_size))
    while name := parent.recv():
        getattr(subject, name)()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        parent.send(subject.wait_shares[-1] if subject.wait_shares else 0.0)
