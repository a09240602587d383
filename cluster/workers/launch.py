"""Runs a function on workers with Ray Train, and passes their reports on as they come."""

import logging
import re
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
from cluster.workers.errors import LostWorkersError, PhaseFailedError, UnreachableError
from cluster.workers.group_watch import GroupWatch
from cluster.workers.process_group import CheckedTorchConfig
from cluster.workers.ray_internals import silence_ray_logs
from cluster.workers.reports import (
    WorkerFailure,
    WorkerReport,
    WorkersAwaited,
    WorkersStarted,
    report_from_dict,
)
from stn_icnn.storage import StorageLocation

OnReport = Callable[[WorkerReport], None]
OnStart = Callable[[WorkersStarted], None]


Message = WorkerReport | WorkersStarted | WorkersAwaited


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
        self.send(WorkerFailure({rank: _told(e) for rank, e in worker_exceptions.items()}))

    def send(self, report: Message | None) -> None:
        """Sends a message, or None: there will be no more."""
        try:
            with Client(("127.0.0.1", self.port), authkey=self.key) as connection:
                connection.send(report)
        except (OSError, EOFError, AuthenticationError):
            logging.getLogger(__name__).exception("a report was lost on its way to the driver")


def _told(error: Exception) -> str:
    """Returns a worker's exception, or where it died, as a job's log tells it."""
    node = re.search(r"node_ip='([^']*)'", str(error))
    has_died = hasattr(error, "health_check_failure")  # Ray Train's name for what it heard instead
    return f"died on {node[1]}" if has_died and node else repr(error)


@contextmanager
def _listening(
    run: StorageLocation, on_report: OnReport, on_start: OnStart
) -> Iterator[_ReportSender]:
    """Yields a sender; a thread passes on what it sends, and prints what becomes of workers."""
    key = secrets.token_bytes(32)
    errors: list[Exception] = []
    with Listener(("127.0.0.1", 0), backlog=16, authkey=key) as listener:

        def listen() -> None:
            while (report := _receive(listener)) is not None:
                try:
                    if line := _line(report):
                        print(f"{run.url}: {line}", flush=True)
                    if isinstance(report, WorkersStarted):
                        on_start(report)
                    elif not isinstance(report, WorkersAwaited):
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


def _line(message: Message) -> str | None:
    """Returns what the job's log says of a message; None: nothing."""
    match message:
        case WorkerFailure():
            return f"workers failed: {message.errors}"
        case WorkersAwaited():
            lost = f"{', '.join(message.lost_nodes)} lost; " if message.lost_nodes else ""
            return f"{lost}waiting for workers, up to {message.wait_s:g} s"
        case WorkersStarted(restart_s=float() as seconds):
            repeated = message.num_repeated
            steps = "" if repeated is None else f"; {repeated} steps are done again"
            nodes = ", ".join(message.nodes)
            number = message.num_workers
            who = "1 worker goes" if number == 1 else f"{number} workers go"
            return f"{who} on after {seconds:.0f} s, on {nodes}{steps}"
    return None


def _receive(listener: Listener) -> Message | None:
    while True:
        try:
            with listener.accept() as connection:
                return cast(Message | None, connection.recv())
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
    on_start: OnStart = lambda started: None,
    may_grow: bool = False,
) -> ray.train.Result:
    """Runs a worker function as one Ray Train run, and prints the failures of workers.

    Args:
        function: a function of one argument, importable by the workers.
        task: its argument, which is pickled.
        name: the run's name; with the same name and storage it goes on from its last checkpoint.
        storage: the location that its checkpoints are stored in.
        allocation: the workers, and how often the run is restarted after a failure of theirs.
        on_report: called in a thread with each report of the first rank and each failure.
        on_start: called in that thread whenever workers begin to train, at first or again.
        may_grow: whether the run is restarted to take further workers, where it has fewer than it
            may have.

    Raises:
        PhaseFailedError: where it failed once more than that.
    """
    silence_ray_logs()
    least, most = allocation.least_workers, allocation.num_workers
    with _listening(storage.child(name), on_report, on_start) as sender:
        trainer = TorchTrainer(
            _call,
            train_loop_config={"function": function, "task": task},
            torch_config=CheckedTorchConfig(),
            scaling_config=ray.train.ScalingConfig(
                num_workers=most if least == most else (least, most),
                elastic_resize_monitor_interval_s=(
                    allocation.resize_interval_s if may_grow else float("inf")
                ),
                use_gpu=allocation.use_gpu,
                resources_per_worker=allocation.resources_per_worker,
            ),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=storage.url,
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
                failure_config=ray.train.FailureConfig(
                    max_failures=allocation.max_failures,
                    controller_failure_limit=-1,  # `GroupWatch` limits the time instead
                ),
                callbacks=[sender, GroupWatch(sender.send, allocation.lost_node_wait_s)],
                logging_config=ray.train.LoggingConfig("INFO" if is_verbose() else "WARNING"),
            ),
        )
        try:
            return trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise PhaseFailedError(f"{name}: {_reason(error)}") from error


def _reason(error: ray.train.TrainingFailedError) -> object:
    """Returns what a run failed for: an error of ours alone where Ray only passes it on."""
    failure = getattr(error, "controller_failure", None)
    return failure if isinstance(failure, UnreachableError | LostWorkersError) else error


def _call(config: dict[str, Any]) -> Any:
    silence_ray_logs()
    return config["function"](config["task"])
