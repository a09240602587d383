"""The training of one trial of a sweep: its phases, each continued from where it stopped."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune

from cluster.storage.datasets import ShardedData
from cluster.sweep.searched_settings import replace_settings
from cluster.sweep.trial_storage import TrialStorage
from cluster.training.run_record import finished_file
from cluster.training.worker import Start, TrainTask, train_on_worker, train_task
from cluster.workers.allocation import WorkerAllocation
from cluster.workers.errors import PhaseFailedError
from cluster.workers.launch import run_on_workers
from cluster.workers.ray_internals import silence_ray_logs
from cluster.workers.reports import WorkerReport, report_from_dict
from stn_icnn.config import TrainConfig
from stn_icnn.context import EpochReport, LocalContext, TrainReport
from stn_icnn.networks.checkpoint import MODEL_FILE, load_checkpoint
from stn_icnn.networks.execution import default_device
from stn_icnn.storage import StorageLocation
from stn_icnn.training.phases import PHASES, PhaseName, SelectionMetric, require_trained

OnEpoch = Callable[[EpochReport], None]


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
    """The workers of one trial; `max_failures` is how often Tune tries it again."""

    def config_of(self, values: dict[str, Any], seed: int) -> TrainConfig:
        """Returns the settings of a trial, which is validated after every epoch."""
        return replace(replace_settings(self.config, values), seed=seed, validate_every_epochs=1)

    @property
    def epochs(self) -> dict[PhaseName, int]:
        """The epochs of each phase of a trial that is not stopped."""
        return {phase: PHASES[phase].num_epochs(self.config.optim) for phase in self.phases}

    @property
    def num_epochs(self) -> int:
        """The epochs of the last phase of a trial that is not stopped."""
        return self.epochs[self.phases[-1]]

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
        on_epoch: called with each epoch's report, once it is stored.
    """

    def __init__(self, storage: TrialStorage, on_epoch: OnEpoch) -> None:
        super().__init__(device=default_device())
        self._storage = storage
        self._on_epoch = on_epoch

    def report(self, report: TrainReport, checkpoint_dir: Path | None) -> None:
        """Stores the folder, and passes an epoch's report on."""
        assert checkpoint_dir is not None
        self._storage.save(checkpoint_dir, report)
        if isinstance(report, EpochReport):
            self._on_epoch(report)

    @contextmanager
    def latest_checkpoint(self) -> Iterator[Path | None]:
        """Yields a copy of the folder that was stored last; None where none was."""
        with self._storage.checkpoint() as folder:
            yield folder


@dataclass(frozen=True)
class TrialReport:
    """What a trial reports to Tune after an epoch, as a dict of these fields."""

    phase: PhaseName
    phase_epoch: int
    """The epochs of the phase that are done."""
    epoch: int
    """The epochs of the trial's last phase that are done; 0 before it."""
    metrics: Mapping[str, float]
    score: float = -math.inf
    """The score of the epoch, higher is better; -inf before the last phase."""
    diverged: str | None = None
    """The reason for the trial's end, where the loss has diverged."""
    computed_on: str = ""
    """The machine; empty where it is not told."""


def run_trial(trial: dict[str, Any], plan: TrialPlan) -> None:
    """Trains a trial's phases, and sends Tune a `TrialReport` after every epoch.

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
        reporter = _Reporter(phase, last)
        storage = plan.storage_of(trial["trial"], phase)
        for report in storage.reports():  # an earlier driver may have died before it got them
            reporter.send(report)
        task = TrainTask(
            phase=phase,
            config=config,
            data=plan.data,
            start=None if start is None else Start(start, tuple(trained)),
            loader_processes=plan.allocation.loader_processes,
        )
        diverged = _train(plan, trial["trial"], task, reporter.send)
        if diverged is not None:
            reporter.send_diverged(diverged)
            return
        if not last:
            start = plan.model(trial["trial"], phase)
            trained |= set(PHASES[phase].trained_networks)


class _Reporter:
    """Sends Tune the reports of a phase."""

    def __init__(self, phase: PhaseName, last: bool) -> None:
        self._phase = phase
        self._last = last
        self._epoch = 0

    def send(self, report: EpochReport) -> None:
        """Sends an epoch's report, unless it was sent before."""
        metric = PHASES[self._phase].selected_by
        if report.epoch <= self._epoch:
            return  # a worker that died repeats what came after its last checkpoint
        self._epoch = report.epoch
        if self._last and metric.name not in report.metrics:
            raise ValueError(
                f"{metric.name} is undefined: the validation split has none of the parts that "
                f"{self._phase} is scored on"
            )
        score = metric.score(report.metrics[metric.name]) if self._last else -math.inf
        self._send(report.metrics, score=score, computed_on=report.computed_on)

    def send_diverged(self, reason: str) -> None:
        """Reports that the loss has diverged, which ends the trial."""
        self._epoch += 1
        self._send({}, diverged=reason)

    def _send(self, metrics: Mapping[str, float], **values: Any) -> None:
        epoch = self._epoch if self._last else 0
        tune.report(asdict(TrialReport(self._phase, self._epoch, epoch, metrics, **values)))


def _train(plan: TrialPlan, trial: str, task: TrainTask, on_epoch: OnEpoch) -> str | None:
    """Trains a phase in this process, or on further workers; returns why it diverged, if it did."""
    storage = plan.storage_of(trial, task.phase)
    if plan.allocation.num_workers == 1:
        return train_task(TrialContext(storage, on_epoch), task, log=lambda line: None)

    def handle(report: WorkerReport) -> None:
        if isinstance(report, EpochReport):
            storage.add_report(report)
            on_epoch(report)

    result = run_on_workers(
        train_on_worker,
        task,
        name=task.phase,
        storage=plan.storage.child(trial),
        # Tune tries the trial again, from the same checkpoint.
        allocation=replace(plan.allocation, max_failures=0),
        on_report=handle,
    )
    if result.return_value is None:
        if result.metrics is None:
            raise PhaseFailedError(f"{storage.location.url}: the workers ended without a report")
        # In case this process died before it got the last epoch's report.
        handle(report_from_dict(result.metrics))
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
