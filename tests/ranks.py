"""Several ranks in one process: threads, which sum through shared slots."""

import threading
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from stn_icnn.context import LocalContext

Result = TypeVar("Result")


class ThreadContext(LocalContext):
    """One of several ranks that are threads, and sum through shared slots."""

    def __init__(self, rank: int, slots: list[Tensor], barrier: threading.Barrier) -> None:
        super().__init__()
        self.rank, self.world_size = rank, len(slots)
        self.slots, self.barrier = slots, barrier

    def sum_(self, tensor: Tensor) -> Tensor:
        self.slots[self.rank] = tensor.clone()
        self.barrier.wait()
        tensor.copy_(torch.stack(self.slots).sum(dim=0))
        self.barrier.wait()
        return tensor


def run_ranks(num_ranks: int, work: Callable[[ThreadContext], Result]) -> list[Result]:
    """Runs a function on so many ranks and returns what each of them returned."""
    slots, barrier = [torch.empty(0)] * num_ranks, threading.Barrier(num_ranks, timeout=60)
    results: dict[int, Result] = {}

    def run(rank: int) -> None:
        results[rank] = work(ThreadContext(rank, slots, barrier))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(num_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(num_ranks)]
