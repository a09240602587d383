"""Runs a function on workers with Ray Train, and passes their reports on as they come."""

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from typing import Any, cast

import ray.train
from ray.train.torch import TorchTrainer

from cluster.config import is_verbose
from cluster.workers.allocation import WorkerAllocation
from cluster.workers.errors import PhaseFailedError
from cluster.workers.ray_internals import silence_ray_logs
from cluster.workers.reports import WorkerFailure, WorkerReport, report_from_dict
from stn_icnn.storage import StorageLocation

OnReport = Callable[[WorkerReport], None]

START_ATTEMPTS = 60
"""Attempts to get the workers, of a minute each: jobs that share a cluster wait for one another's
phases to end."""


class _ReportSender(ray.train.UserCallback):
    """Sends what Ray Train's controller is told to the driver, over a local connection each.

    The controller runs on the driver's node. The methods must not raise: an error would end the
    run.
    """

    def __init__(self, port: int, key: bytes) -> None:
        self.port, self.key = port, key

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Sends the first rank's report: every rank reports the same sums."""
        self.send(report_from_dict(metrics[0]))

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Sends that workers died or raised; Ray decides whether the phase is restarted."""
        self.send(WorkerFailure({rank: repr(e) for rank, e in worker_exceptions.items()}))

    def send(self, report: WorkerReport | None) -> None:
        """Sends a report, or None: there will be no more."""
        try:
            with Client(("127.0.0.1", self.port), authkey=self.key) as connection:
                connection.send(report)
        except (OSError, EOFError, AuthenticationError):
            logging.getLogger(__name__).exception("a report was lost on its way to the driver")


@contextmanager
def _listening(run: StorageLocation, on_report: OnReport) -> Iterator[_ReportSender]:
    """Yields a sender; a thread calls `on_report` with what it sends, and prints the failures."""
    key = secrets.token_bytes(32)
    errors: list[Exception] = []
    with Listener(("127.0.0.1", 0), backlog=16, authkey=key) as listener:

        def listen() -> None:
            while (report := _receive(listener)) is not None:
                try:
                    if isinstance(report, WorkerFailure):
                        print(f"{run.url}: workers failed: {report.errors}", flush=True)
                    on_report(report)
                except Exception as error:  # raised below: the thread must go on receiving
                    errors.append(error)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        sender = _ReportSender(listener.address[1], key)
        try:
            yield sender
        finally:
            sender.send(None)
            thread.join()
    if errors:
        raise errors[0]


def _receive(listener: Listener) -> WorkerReport | None:
    while True:
        try:
            with listener.accept() as connection:
                return cast(WorkerReport | None, connection.recv())
        except (OSError, EOFError, AuthenticationError):  # another process tried the port
            continue


def run_on_workers(
    function: Callable[[Any], Any],
    task: Any,
    *,
    name: str,
    storage: StorageLocation,
    allocation: WorkerAllocation,
    on_report: OnReport = lambda report: None,
) -> ray.train.Result:
    """Runs a worker function as one Ray Train run, and prints the failures of workers.

    Args:
        function: a function of one argument, importable by the workers.
        task: its argument, which is pickled.
        name: the run's name; with the same name and storage it goes on from its last checkpoint.
        storage: the location that its checkpoints are stored in.
        allocation: the workers, and how often the run is restarted after a failure of theirs.
        on_report: called in a thread with each report of the first rank and each failure.

    Raises:
        PhaseFailedError: where it failed once more than that.
    """
    silence_ray_logs()
    with _listening(storage.child(name), on_report) as sender:
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
                    max_failures=allocation.max_failures,
                    controller_failure_limit=START_ATTEMPTS,
                ),
                callbacks=[sender],
                logging_config=ray.train.LoggingConfig("INFO" if is_verbose() else "WARNING"),
            ),
        )
        try:
            return trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise PhaseFailedError(f"{name}: {error}") from error


def _call(config: dict[str, Any]) -> Any:
    silence_ray_logs()
    return config["function"](config["task"])
