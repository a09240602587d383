"""Threads with a core each, for use on a CPU: small convolutions use a second core badly.

Never for training, where each worker has a core of its own.
"""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Crew:
    """Threads that compute without gradients.

    Args:
        size: number of threads.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._start()

    def map(self, function: Callable[[Piece], Result], pieces: Iterable[Piece]) -> list[Result]:
        """The results of independent pieces of work, in order."""
        if os.getpid() != self._process_id:  # forked: the threads were left behind
            self._start()
        return list(self._pool.map(torch.inference_mode()(function), pieces))

    def _start(self) -> None:
        self._process_id = os.getpid()
        started = threading.Barrier(self.size + 1)
        self._pool = ThreadPoolExecutor(self.size, "crew", initializer=_take_one_core)
        for _ in range(self.size):
            self._pool.submit(started.wait)
        started.wait()
        torch.set_num_threads(self.size)  # what was set last is what any later thread begins with


def is_alone() -> bool:
    """Whether this thread has a single core, as those of a crew have."""
    return torch.get_num_threads() == 1


def _take_one_core() -> None:
    torch.get_num_threads()  # else a thread's first operation sets what was set elsewhere last
    torch.set_num_threads(1)
