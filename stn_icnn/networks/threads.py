"""Threads with a core each, for inference on a CPU: small convolutions use a second core badly.

Training uses none: each of its workers has a core of its own.
"""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class InferenceThreads:
    """A pool of threads, each with one core, that compute without gradients.

    Args:
        size: number of threads.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._start()

    def map(self, function: Callable[[Piece], Result], pieces: Iterable[Piece]) -> list[Result]:
        """Returns the results of independent pieces of work, in order."""
        if os.getpid() != self._process_id:  # forked: the threads were left behind
            self._start()
        return list(self._pool.map(torch.inference_mode()(function), pieces))

    def _start(self) -> None:
        self._process_id = os.getpid()
        started = threading.Barrier(self.size + 1)
        self._pool = ThreadPoolExecutor(self.size, "inference", initializer=_use_one_core)
        for _ in range(self.size):
            self._pool.submit(started.wait)
        started.wait()
        torch.set_num_threads(self.size)  # what was set last is what any later thread begins with


def has_one_core() -> bool:
    """Tells whether this thread may use one core alone, as `InferenceThreads` do."""
    return torch.get_num_threads() == 1


def _use_one_core() -> None:
    torch.get_num_threads()  # else a thread's first operation sets what was set elsewhere last
    torch.set_num_threads(1)
