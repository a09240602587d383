"""Runs a function on workers with Ray Train, and passes their reports on as they come."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.exceptions
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.workers.allocation import WorkerAllocation
from cluster.workers.ray_internals import silence_ray_logs
from cluster.workers.reports import WorkerFailure, WorkerReport, report_from_dict
from stn_icnn.storage import StorageLocation

OnReport = Callable[[WorkerReport], None]

START_ATTEMPTS = 60
"""Attempts to get the workers, of a minute each: jobs that share a cluster wait for one another's
phases to end."""


class PhaseFailedError(RuntimeError):
    """A phase failed: its workers died too often, or its loss is not finite."""


class _ReportQueue(ray.train.UserCallback):
    """Puts what Ray Train's controller is told into a queue.

    Its methods must not raise: an error would end the run.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Passes on the first rank's report: every rank reports the same sums."""
        self._send(report_from_dict(metrics[0]))

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Passes on that workers died or raised; Ray decides whether the phase is restarted."""
        self._send(WorkerFailure({rank: repr(e) for rank, e in worker_exceptions.items()}))

    def _send(self, report: WorkerReport) -> None:
        try:
            self.queue.put(report)
        except ray.exceptions.RayError:
            logging.getLogger(__name__).exception("a report was lost on its way to the driver")


@contextmanager
def _listening(run: StorageLocation, on_report: OnReport) -> Iterator[Queue]:
    """Yields a queue; a thread calls `on_report` with all of it, and prints the failures in it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    errors: list[Exception] = []

    def listen() -> None:
        while (report := queue.get()) is not None:
            try:
                if isinstance(report, WorkerFailure):
                    print(f"{run.url}: workers failed: {report.errors}", flush=True)
                on_report(report)
            except Exception as error:  # raised below: the thread must go on emptying the queue
                errors.append(error)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        queue.put(None)
        thread.join()
        queue.shutdown()
    if errors:
        raise errors[0]


def run_on_workers(
    function: Callable[[Any], Any],
    task: Any,
    *,
    name: str,
    storage: StorageLocation,
    allocation: WorkerAllocation,
    max_failures: int,
    on_report: OnReport = lambda report: None,
) -> ray.train.Result:
    """Runs a worker function as one Ray Train run, and prints the failures of workers.

    Args:
        function: a function of one argument, importable by the workers.
        task: its argument, which is pickled.
        name: the run's name; with the same name and storage it goes on from its last checkpoint.
        storage: the location that its checkpoints are stored in.
        allocation: the workers.
        max_failures: how often it is restarted after a worker's death or exception.
        on_report: called in a thread with each report of the first rank and each failure.

    Raises:
        PhaseFailedError: where it failed once more than that.
    """
    silence_ray_logs()
    with _listening(storage.child(name), on_report) as queue:
        trainer = TorchTrainer(
            _call,
            train_loop_config={"function": function, "task": task},
            scaling_config=ray.train.ScalingConfig(
                num_workers=allocation.num_workers,
                use_gpu=allocation.use_gpu,
                resources_per_worker=allocation.resources_per_worker,
            ),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=storage.url,
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
                failure_config=ray.train.FailureConfig(
                    max_failures=max_failures, controller_failure_limit=START_ATTEMPTS
                ),
                callbacks=[_ReportQueue(queue)],
            ),
        )
        try:
            return trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise PhaseFailedError(f"{name}: {error}") from error


def _call(config: dict[str, Any]) -> Any:
    silence_ray_logs()
    return config["function"](config["task"])
