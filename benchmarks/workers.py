"""Two workers with one core each against one worker with two: real processes, real gradients' sums.

The processes live as long as the measurement and train in turn, each time a round's steps.
"""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist

from benchmarks.measure import DEVICE, Row, Work, in_turn
from benchmarks.subjects import Setup, Training
from cluster.context import RayContext
from stn_icnn.config import PhaseName
from stn_icnn.context import Metrics
from stn_icnn.phases import PHASES

CORES = 2
TIMEOUT = timedelta(minutes=5)


class BenchContext(RayContext):
    """A worker's wrapping and sums, without Ray around it."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size, self.device = rank, world_size, DEVICE

    def report(self, metrics: Metrics, checkpoint_dir: Path | None) -> None:
        """Nobody listens."""


def workers(setup: Setup) -> Iterator[Row]:
    """For each phase, the same global batches read from the same shards."""
    if DEVICE.type == "cuda":
        yield Row(figure="two workers / one", note="not measured: it is about the cores of a CPU")
        return
    for phase in PHASES:
        with _team(setup, phase, CORES) as two, _team(setup, phase, 1) as one:
            times = in_turn({"two": two, "one": one}, setup.rounds)
        num_images = setup.steps * setup.config.optim.global_batch
        yield Row(
            figure=f"{phase}: images/s, two workers with a core each / one with two",
            rounds=times.ratio("one", "two"),
            absolute={
                "two, images/s": times.rate("two", num_images),
                "one, images/s": times.rate("one", num_images),
            },
        )


@contextmanager
def _team(setup: Setup, phase: PhaseName, world_size: int) -> Iterator[Work]:
    """Starts workers; the work makes each train a round and waits for all."""
    spawn = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as folder:
        team: dict[Connection, BaseProcess] = {}
        for rank in range(world_size):
            ours, theirs = spawn.Pipe()
            arguments = (setup, phase, rank, world_size, f"file://{folder}/met", theirs)
            process: BaseProcess = spawn.Process(target=_worker, args=arguments, daemon=True)
            process.start()
            theirs.close()
            team[ours] = process

        def train() -> None:
            for connection in team:
                connection.send("train")
            for connection in team:
                connection.recv()  # EOFError where the worker has died: its traceback is printed

        try:
            yield train
        finally:
            for process in team.values():
                process.terminate()
                process.join()


def _worker(
    setup: Setup, phase: PhaseName, rank: int, world_size: int, meet_at: str, parent: Connection
) -> None:
    """Trains a round each time it is told to, with its share of the cores."""
    torch.set_num_threads(CORES // world_size)
    if world_size > 1:
        dist.init_process_group(
            "gloo", init_method=meet_at, rank=rank, world_size=world_size, timeout=TIMEOUT
        )
    subject = Training(setup, phase, BenchContext(rank, world_size))
    while parent.recv():
        subject.from_shards()
        parent.send("done")
