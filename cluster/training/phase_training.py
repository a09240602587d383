"""Training a phase: one Ray Train run, one child run in MLflow, one model for the next phase."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from cluster.run_notes import log_machines
from cluster.shell_commands import going_on
from cluster.tracking.mlflow_model import log_model_file
from cluster.tracking.tracker import Run
from cluster.training.setup import Training
from cluster.training.worker import Start, TrainTask, train_on_worker
from cluster.workers.errors import PhaseFailedError
from cluster.workers.launch import run_on_workers
from cluster.workers.reports import WorkerFailure, WorkerReport, WorkersStarted
from stn_icnn.config import TrainConfig
from stn_icnn.config_dict import to_stored
from stn_icnn.context import CheckpointReport
from stn_icnn.training.phases import PHASES, PhaseName
from stn_icnn.training.state import SECONDS, VALIDATION_SECONDS

CONFIG_FILE = "config.json"
STEP_LOSS = "train/step_loss"
"""The metric of the losses within an epoch; its step is the number of the phase's steps."""
WORKERS_TAG = "workers"
"""The tag of a phase's run that says how many workers trained it, from which step."""
NUM_PICTURED = 6
"""The number of validation faces whose pictures a phase's run shows over its epochs."""
_SYSTEM = "system/"


def train_phase(training: Training, phase: PhaseName, start: Start | None = None) -> None:
    """Trains a phase as one Ray Train run and one child run in MLflow, unless it is finished.

    Args:
        training: the training that it belongs to.
        phase: the phase to train.
        start: the model that it starts from; None: that of the phase before, where it needs one.

    Raises:
        PhaseFailedError: where its loss is not finite any more, or workers failed too often.
    """
    record = training.record
    if record.has_finished(phase):
        print(f"{phase}: finished before", flush=True)
        return
    before = PHASES[phase].starts_from
    if start is None and before is not None:
        start = Start(record.model(before), PHASES[phase].required_networks)
    run = training.run
    changed = training.base.changed_by(training.config)
    child = run.tracker.start_or_resume_run(
        f"{run.name}/{phase}",
        run.run_id,
        tags={"phase": phase},
        params={name: ours for name, (ours, _) in changed.items()},
        former_name=phase,
    )
    training.expect([phase])
    with child.finishing(), training.progress.showing(phase, training.num_epochs(phase)):
        logger = _ReportLogger(phase, training, child)
        try:
            result = run_on_workers(
                train_on_worker,
                phase_task(training, phase, start),
                name=phase,
                storage=record.storage,
                allocation=training.allocation,
                on_report=logger,
                on_start=logger.record_workers,
                may_grow=True,
            )
        except PhaseFailedError as error:
            raise PhaseFailedError(f"{error}\n{going_on(run.name)}") from error
        if result.return_value is not None:
            raise PhaseFailedError(result.return_value)
        log_model_file(child, record.model(phase))
        record.mark_finished(phase)


def phase_task(training: Training, phase: PhaseName, start: Start | None) -> TrainTask:
    """Returns a phase of a training as the workers get it."""
    return TrainTask(
        phase=phase,
        config=training.config,
        data=training.data,
        start=start,
        loader_processes=training.allocation.loader_processes,
        num_images=training.chosen_images,
        num_pictured=NUM_PICTURED,
    )


@dataclass
class _ReportLogger:
    """Logs the epochs that a phase reports to its run, and prints a line for each report."""

    phase: PhaseName
    training: Training
    run: Run
    machine: str = ""
    """The machine of the last report."""

    def __call__(self, report: WorkerReport) -> None:
        if isinstance(report, WorkerFailure):
            return
        if report.computed_on != self.machine:
            self.machine = report.computed_on
            self._record_machine()
        self.run.log_curve(STEP_LOSS, report.step_losses)
        self.run.log_pictures(report.pictures)
        if isinstance(report, CheckpointReport):
            self._print(f"epoch {report.epoch + 1}, checkpoint after step {report.step}")
            return
        metrics = report.metrics
        self.run.log_metrics(metrics, step=report.epoch)
        own = {f"{self.phase}/{k}": v for k, v in metrics.items() if not k.startswith(_SYSTEM)}
        self.training.run.log_metrics(own, step=report.epoch)
        judged_by = PHASES[self.phase].selected_by
        shown = {"train/loss": "loss", judged_by.name: judged_by.words}
        said = ", ".join(
            f"{words} {metrics[name]:.3g}" for name, words in shown.items() if name in metrics
        )
        self.training.progress.count(
            (self.training.run.name, self.phase),
            report.epoch,
            metrics[SECONDS],
            said,
            metrics.get(VALIDATION_SECONDS),
        )

    def record_workers(self, started: WorkersStarted) -> None:
        """Records and tags the number of workers, at first and where it has changed."""
        number, step, record = started.num_workers, started.num_steps, self.training.record
        before = record.workers(self.phase)
        if not before or before[-1][1] != number:
            self._write(lambda: record.add_workers(self.phase, step, number))
            if before or number != self.training.allocation.num_workers:
                self._print(f"{number} worker{'s' if number > 1 else ''} from step {step}")
        (_, first), *changes = record.workers(self.phase)
        words = [str(first), *(f"{number} from step {step}" for step, number in changes)]
        self.run.set_tags({WORKERS_TAG: "; ".join(words)})

    def _record_machine(self) -> None:
        """Records and tags the machine: it may choose the arithmetic, which tells runs apart."""
        self.training.progress.show_machine(self.phase, self.machine)
        self._write(lambda: self.training.record.add_machine(self.phase, self.machine))
        machines = self.training.record.computed_on(self.phase)
        self.run.set_tags({"computed_on": "; ".join(machines)})
        log_machines(self.run, machines)

    def _write(self, change: Callable[[], None]) -> None:
        """Makes an entry in the training's record."""
        try:
            change()
        except OSError as error:  # no reason to lose a training
            self._print(f"could not be recorded in {self.training.record.storage.url}: {error}")

    def _print(self, text: str) -> None:
        self.training.progress.show(self.phase, text)


def log_config(run: Run, config: TrainConfig) -> None:
    """Stores the settings in a run as a file that `--config` takes."""
    run.log_file(CONFIG_FILE, config_json(config))


def config_json(config: TrainConfig) -> bytes:
    """Returns the settings as the JSON of a file that `--config` takes."""
    return f"{json.dumps(to_stored(config), indent=1)}\n".encode()
