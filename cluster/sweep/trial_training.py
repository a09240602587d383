"""The training of one trial of a sweep: its phases, each continued from where it stopped."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune

from cluster.storage.datasets import ShardedData
from cluster.sweep.searched_settings import replace_settings
from cluster.sweep.trial_storage import Report, TrialStorage
from cluster.training.run_record import finished_file
from cluster.training.worker import Start, TrainTask, train, train_in
from cluster.workers.allocation import WorkerAllocation
from cluster.workers.launch import PhaseFailedError, run_on_workers
from cluster.workers.ray_context import checkpoint_name
from cluster.workers.ray_internals import silence_ray_logs
from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext, Metrics
from stn_icnn.networks.checkpoint import MODEL_FILE, load_checkpoint
from stn_icnn.networks.execution import default_device
from stn_icnn.storage import StorageLocation
from stn_icnn.training.phases import PHASES, PhaseName, SelectionMetric, require_trained

OnReport = Callable[[Report], None]


@dataclass(frozen=True)
class TrialPlan:
    """The settings, data and workers that the trials of a sweep have in common."""

    config: TrainConfig
    """Settings of a training; the trials' values replace some of them."""
    phases: tuple[PhaseName, ...]
    """The phases that each of them trains, in order."""
    data: ShardedData
    start: bytes | None
    """Content of the model file that they start from; None: freshly initialized networks."""
    storage: StorageLocation
    """The location of the sweep in the storage."""
    allocation: WorkerAllocation
    """The workers of one trial."""
    max_failures: int

    def config_of(self, values: dict[str, Any], seed: int) -> TrainConfig:
        """Returns the settings of a trial, which is validated after every epoch."""
        return replace(replace_settings(self.config, values), seed=seed, validate_every_epochs=1)

    @property
    def num_epochs(self) -> int:
        """The epochs of the last phase of a trial that is not stopped."""
        return PHASES[self.phases[-1]].num_epochs(self.config.optim)

    @property
    def metric(self) -> SelectionMetric:
        """The metric that trials are compared by: that of the last phase."""
        return PHASES[self.phases[-1]].selected_by

    def storage_of(self, trial: str, phase: PhaseName) -> TrialStorage:
        """Returns the storage of a phase of a trial."""
        return TrialStorage(self.storage.child(trial).child(phase))

    def model(self, trial: str, phase: PhaseName) -> bytes:
        """Returns the model file that a phase of a trial has stored."""
        storage = self.storage_of(trial, phase)
        if self.allocation.num_workers == 1:
            return storage.model()
        return finished_file(storage.location, MODEL_FILE)


class TrialContext(LocalContext):
    """The `TrainContext` of a trial that is trained in one process.

    Args:
        storage: where checkpoints and reports are stored.
        on_report: called with each epoch's report, once it is stored.
    """

    def __init__(self, storage: TrialStorage, on_report: OnReport) -> None:
        super().__init__(device=default_device())
        self._storage = storage
        self._on_report = on_report

    def report(self, metrics: Metrics, checkpoint_dir: Path | None) -> None:
        """Stores the folder, and passes an epoch's metrics on."""
        assert checkpoint_dir is not None
        report = None if metrics["step"] else dict(metrics)
        self._storage.save(checkpoint_dir, checkpoint_name(metrics), report)
        if report is not None:
            self._on_report(report)

    @contextmanager
    def latest_checkpoint(self) -> Iterator[Path | None]:
        """Yields a copy of the folder that was stored last; None where none was."""
        with self._storage.checkpoint() as folder:
            yield folder


def run_trial(trial: dict[str, Any], plan: TrialPlan) -> None:
    """Trains a trial's phases, and reports to Tune after every epoch.

    A report has the phase and its epoch, the epochs of the last phase (`epoch`), the `score`
    (higher is better, -inf before the last phase) and the epoch's metrics; the last one of a trial
    whose loss has diverged says why, in `diverged`.

    Args:
        trial: its name (`trial`), `values` of the searched settings, and `seed`.
        plan: what all trials have in common.
    """
    silence_ray_logs()
    config = plan.config_of(trial["values"], trial["seed"])
    start = plan.start
    trained = set() if start is None else set(PHASES[load_checkpoint(start).phase].trained_networks)
    for phase in plan.phases:
        last = phase == plan.phases[-1]
        on_report = _Reporter(phase, last)
        storage = plan.storage_of(trial["trial"], phase)
        for report in storage.reports():  # an earlier driver may have died before it got them
            on_report(report)
        task = TrainTask(
            phase=phase,
            config=config,
            data=plan.data,
            start=None if start is None else Start(start, tuple(trained)),
            loader_processes=plan.allocation.loader_processes,
        )
        diverged = _train(plan, trial["trial"], task, on_report)
        if diverged is not None:
            on_report.diverged(diverged)
            return
        if not last:
            start = plan.model(trial["trial"], phase)
            trained |= set(PHASES[phase].trained_networks)


class _Reporter:
    """Passes the reports of a phase on to Tune."""

    def __init__(self, phase: PhaseName, last: bool) -> None:
        self._phase = phase
        self._last = last
        self._epoch = 0

    def __call__(self, report: Report) -> None:
        epoch, metric = int(report["epoch"]), PHASES[self._phase].selected_by
        if epoch <= self._epoch:
            return  # a worker that died repeats what came after its last checkpoint
        self._epoch = epoch
        if self._last and metric.name not in report:
            raise ValueError(
                f"{metric.name} is undefined: the validation split has none of the parts that "
                f"{self._phase} is scored on"
            )
        self._send(metric.score(report[metric.name]) if self._last else None, report)

    def diverged(self, reason: str) -> None:
        """Reports that the loss has diverged, which ends the trial."""
        self._epoch += 1
        self._send(None, {"diverged": reason})

    def _send(self, score: float | None, values: dict[str, Any]) -> None:
        tune.report(
            {
                **values,
                "phase": self._phase,
                "phase_epoch": self._epoch,
                "epoch": self._epoch if self._last else 0,
                "score": float("-inf") if score is None else score,
            }
        )


def _train(plan: TrialPlan, trial: str, task: TrainTask, on_report: OnReport) -> str | None:
    """Trains a phase in this process, or on further workers; returns why it diverged, if it did."""
    storage = plan.storage_of(trial, task.phase)
    if plan.allocation.num_workers == 1:
        return train_in(TrialContext(storage, on_report), task, log=lambda line: None)

    def handle(report: dict[str, Any]) -> None:
        if "failed" in report:
            print(f"{storage.location.url}: workers failed: {report['failed']}", flush=True)
        elif not report["step"]:
            storage.add_report(report)
            on_report(report)

    result = run_on_workers(
        train,
        task,
        name=task.phase,
        storage=plan.storage.child(trial),
        allocation=plan.allocation,
        max_failures=0,  # Tune tries the trial again, from the same checkpoint
        on_report=handle,
    )
    if result.return_value is None:
        if result.metrics is None:
            raise PhaseFailedError(f"{storage.location.url}: the workers ended without a report")
        handle(result.metrics)  # in case this process died before the last epoch's report
    diverged: str | None = result.return_value
    return diverged


def require_trained_start(phases: Sequence[PhaseName], start: bytes | None) -> None:
    """Refuses phases that would go on from networks that have learnt nothing.

    Args:
        phases: the phases that a trial trains, in order.
        start: the content of the model file that it starts from; None: there is none.

    Raises:
        ValueError: naming the phase and the networks.
    """
    trained = set(PHASES[load_checkpoint(start).phase].trained_networks) if start else set()
    for phase in phases:
        require_trained(
            f"sweep.phases {' '.join(phases)}: {phase}",
            PHASES[phase].required_networks,
            trained,
            "train the phases before it too, or give a sweep.start",
        )
        trained |= set(PHASES[phase].trained_networks)
