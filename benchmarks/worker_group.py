"""Starts processes that train together as a job's workers do, with real sums of gradients.

They live as long as a measurement and take turns with other work, a round each time.
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
from benchmarks.subjects import PhaseBenchmark, Setup
from cluster.training.setup import LEAST_IMAGES_A_WORKER
from cluster.workers.ray_cluster import KEEP_MEMORY
from cluster.workers.ray_context import RayContext
from stn_icnn.context import TrainReport
from stn_icnn.studies.timing import Work
from stn_icnn.training.phases import PhaseName

TIMEOUT = timedelta(minutes=5)


def default_num_workers(setup: Setup) -> int:
    """Returns the number of workers that a job on this machine has by default."""
    if DEVICE.type == "cuda":
        return 1
    return max(
        1, min(torch.get_num_threads(), setup.config.optim.global_batch // LEAST_IMAGES_A_WORKER)
    )


class BenchContext(RayContext):
    """A context that wraps models and sums as a worker's does, without Ray."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size, self.device = rank, world_size, DEVICE

    @property
    def is_leaving(self) -> bool:
        """The machine stays."""
        return False

    def report(self, report: TrainReport, checkpoint_dir: Path | None) -> None:
        """Discards the report."""


class WorkerGroup:
    """The workers of one phase.

    Attributes:
        wait_shares: by round from shards, the share of its time that the first worker waited for
            data.
    """

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections
        self.wait_shares: list[float] = []

    def work(self, name: str) -> Work:
        """Returns work in which all workers call a method of `Training` once."""

        def round_of_all() -> None:
            for connection in self._connections:
                connection.send(name)
            # This raises EOFError if a worker has died, which prints its traceback.
            waited = [connection.recv() for connection in self._connections]
            if name == "from_shards":
                self.wait_shares.append(waited[0])

        return round_of_all


@contextmanager
def start_workers(
    setup: Setup, phase: PhaseName, world_size: int, cores: int
) -> Iterator[WorkerGroup]:
    """Starts workers that divide some cores among them, in the environment of a job's workers."""
    spawn = multiprocessing.get_context("spawn")
    connections, processes = [], []
    with TemporaryDirectory() as folder, patch.dict(os.environ, KEEP_MEMORY):
        try:
            for rank in range(world_size):
                parent_end, worker_end = spawn.Pipe()
                init_method = f"file://{folder}/rendezvous"
                arguments = (setup, phase, rank, world_size, cores, init_method, worker_end)
                processes.append(spawn.Process(target=_worker, args=arguments, daemon=True))
                processes[-1].start()
                worker_end.close()
                connections.append(parent_end)
            yield WorkerGroup(connections)
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
    init_method: str,
    parent: Connection,
) -> None:
    """Calls the methods of `Training` that the parent names, on its part of the cores."""
    torch.set_num_threads(max(1, cores // world_size))
    if world_size > 1:
        dist.init_process_group(
            "gloo", init_method=init_method, rank=rank, world_size=world_size, timeout=TIMEOUT
        )
    subject = PhaseBenchmark(setup, phase, BenchContext(rank, world_size))
    while name := parent.recv():
        getattr(subject, name)()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        parent.send(subject.wait_shares[-1] if subject.wait_shares else 0.0)
