"""The callback by which a sweep's driver records, tracks and prints the reports of trials."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ray import tune

from cluster.run_notes import (
    BEST_SCORE,
    data_params,
    log_machines,
    log_weakest_class,
    validation_rows,
)
from cluster.sweep.spaces import format_value
from cluster.sweep.sweep_record import State, SweepRecord, Trial
from cluster.sweep.trial_progress import TrialProgress
from cluster.sweep.trial_training import TrialPlan, TrialReport
from cluster.tracking.tracker import Run, Status
from stn_icnn.training.phases import PHASES
from stn_icnn.training.state import SECONDS, VALIDATION_SECONDS

STATUS: dict[State, Status] = {
    "finished": "FINISHED",
    "pruned": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
}
"""MLflow's status of a run, by how its trial ended; the tag `trial_state` is more exact."""

MAX_ERROR_LENGTH = 200
"""The most characters of an error: Ray's message about a process that died is a paragraph."""


@dataclass(eq=False)
class SweepCallback(tune.Callback):
    """Records every report before anything else is done with it, then tracks it in MLflow."""

    record: SweepRecord
    """The record of the sweep."""
    plan: TrialPlan
    """What its trials have in common."""
    run: Run
    """The sweep's run in MLflow; each trial has a child run."""
    progress: TrialProgress
    """Counts the epochs of the trials."""
    _runs: dict[str, Run] = field(default_factory=dict, init=False)
    """The runs of the trials, by name."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves it, and nothing reads it

    def start(self, trial: Trial) -> None:
        """Tracks a trial that is to start or to go on; one with impossible settings has failed."""
        try:
            self.plan.config_of(trial.values, trial.seed)
        except ValueError as error:
            trial.state, trial.error = "failed", str(error)
            self.record.save(trial)
            self._track_end(trial)
            return
        self._run_of(trial)
        going_on = f", goes on after epoch {trial.epochs}" if trial.curve else ""
        values = ", ".join(f"{name} {format_value(value)}" for name, value in trial.values.items())
        print(f"{trial.name}: {values}, seed {trial.seed}{going_on}", flush=True)

    def track_ends(self) -> None:
        """Tracks the trials whose end an earlier driver did not live to track."""
        metric = self.plan.metric
        for trial in self.record.trials:
            if trial.state != "running" and not trial.tracked:
                for epoch, score in trial.curve.items():
                    values = {metric.name: metric.score(score)}
                    self._run_of(trial).log_metrics(values, step=epoch)
                self._track_end(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Takes a report of a trial; it has `done` where the pruner has just stopped the trial."""
        recorded = self.record.named(trial.config["trial"])
        if recorded.state != "running":
            return  # it has ended, and its process is being stopped
        report = TrialReport(**{one.name: result[one.name] for one in fields(TrialReport)})
        is_new = report.epoch not in recorded.curve
        recorded.computed_on = report.computed_on or recorded.computed_on
        if SECONDS in report.metrics:
            recorded.seconds[report.phase] = report.metrics[SECONDS]
            epoch_s = report.metrics[SECONDS] / report.phase_epoch
            validation_s = report.metrics.get(VALIDATION_SECONDS, 0.0)
            took = epoch_s + validation_s
            self.progress.count(recorded.name, report.phase, report.phase_epoch, took)
        if report.diverged is not None:
            recorded.state, recorded.error = "diverged", report.diverged
        elif report.epoch > 0:
            recorded.curve[report.epoch] = report.score
            if report.epoch == self.plan.num_epochs:
                recorded.state = "finished"
            elif result.get("done"):
                recorded.state = "pruned"
        self.record.save(recorded)
        self._handle_report(recorded, report, is_new)
        if recorded.state != "running":
            self._track_end(recorded)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Prints that a trial, whose process died or raised, goes on from its checkpoint."""
        print(f"{trial.config['trial']}: tried again: {_last_error(trial)}", flush=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Records that a trial failed more often than allowed; the others go on."""
        recorded = self.record.named(trial.config["trial"])
        if recorded.state == "running":
            recorded.state, recorded.error = "failed", _last_error(trial)
            self.record.save(recorded)
            self._track_end(recorded)

    def _run_of(self, trial: Trial) -> Run:
        """Returns a trial's run in MLflow, with all its settings.

        Where they are impossible together, it has those that are searched.
        """
        if trial.name not in self._runs:
            try:
                params = asdict(self.plan.config_of(trial.values, trial.seed))
            except ValueError:
                params = dict(trial.values)
            self._runs[trial.name] = self.run.tracker.start_or_resume_run(
                f"{self.run.name}/{trial.name}",
                self.run.run_id,
                tags={"trial_state": trial.state, "phases": " ".join(self.plan.phases)},
                params={**params, **data_params(self.plan.data)},
                former_name=trial.name,
            )
        return self._runs[trial.name]

    def _handle_report(self, trial: Trial, report: TrialReport, is_new: bool) -> None:
        """Tracks the report of an epoch, and prints it where it has not come before."""
        phase, epoch = PHASES[report.phase], report.phase_epoch
        before = "" if phase.name == self.plan.phases[-1] else f"{phase.name}/"
        values = {f"{before}{name}": value for name, value in report.metrics.items()}
        run = self._run_of(trial)
        run.log_metrics(values, step=epoch)
        if trial.curve and report.epoch == trial.best_epoch:
            label_set = self.plan.config.model.label_set
            log_weakest_class(run, validation_rows(report.metrics, label_set), label_set)
        metric = phase.selected_by.name
        if is_new and metric in report.metrics:
            progress = f"epoch {epoch} of {phase.num_epochs(self.plan.config.optim)}"
            value = f"{metric} {report.metrics[metric]:.4f}"
            line = f"{trial.name}: {phase.name}: {progress}: {value}; {self.progress}"
            print(line, flush=True)

    def _track_end(self, trial: Trial) -> None:
        error = f": {trial.error}" if trial.error else ""
        ending = f"{trial.state} after {trial.epochs} epochs{error}"
        print(f"{trial.name}: {ending}; {self.progress}", flush=True)
        run = self._run_of(trial)
        if trial.score is not None:
            metric = self.plan.metric
            best = {f"best_{metric.name}": metric.score(trial.score), BEST_SCORE: trial.score}
            run.log_metrics(best, step=trial.epochs)
        # Empty where there is none: an earlier driver may have set one.
        run.set_tags({"trial_state": trial.state, "error": trial.error or ""})
        log_machines(run, [trial.computed_on], trial.minutes, step=trial.epochs)
        run.finish(STATUS[trial.state])
        trial.tracked = True
        self.record.save(trial)


def _last_error(trial: Any) -> str:
    """Returns the last line of the traceback that Tune has of a trial's last error, cut if long."""
    file = trial.error_file
    text = Path(file).read_text().strip() if file and Path(file).exists() else "no reason given"
    line = text.splitlines()[-1]
    return line if len(line) <= MAX_ERROR_LENGTH else f"{line[:MAX_ERROR_LENGTH]} …"
