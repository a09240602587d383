"""Runs a function on many tasks in processes of this machine."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], num_workers: int
) -> Iterator[Result]:
    """Yields the results of tasks as they come; one worker runs in this process.

    Args:
        function: does a task; function, tasks and results can be pickled.
        tasks: the tasks, in the order in which they are begun.
        num_workers: the most processes that are started.

    Raises:
        OSError: a worker died, as it does without memory.
    """
    if num_workers == 1:
        yield from map(function, tasks)
        return
    # Spawned, as a fork of a process with threads (boto3's, Ray's, torch's) may hang.
    context = multiprocessing.get_context("spawn")
    workers = min(num_workers, len(tasks))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_live_with_parent) as pool:
        futures = [pool.submit(function, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise OSError(
                "a worker process died (without memory?): the same command goes on where this "
                "one stopped; --workers takes fewer"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _live_with_parent() -> None:
    """Ends this worker as soon as its parent is gone, however that died.

    It would write on where the next run of the command may be at work.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of it, and lets us finish
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
