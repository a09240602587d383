"""Runs the trials of a sweep under Ray Tune, as many at a time as the cluster holds."""

import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray import tune

from cluster.sweep.config import SweepJobConfig
from cluster.sweep.proposals import propose
from cluster.sweep.spaces import format_space
from cluster.sweep.sweep_record import SweepRecord
from cluster.sweep.trial_training import TrialPlan, run_trial
from cluster.sweep.tune_callback import SweepCallback
from cluster.sweep.tune_scheduling import Pruner, SweepSearch
from cluster.tracking.tracker import Run
from cluster.workers.allocation import WorkerAllocation, num_concurrent
from cluster.workers.launch import PhaseFailedError

TUNE_FOLDER = "tune"


@dataclass(frozen=True)
class Sweep:
    """A sweep that is ready to run."""

    settings: SweepJobConfig
    num_combinations: int
    """Combinations of values to try in all."""
    plan: TrialPlan
    record: SweepRecord
    run: Run

    @property
    def num_epochs(self) -> int:
        """Epochs of the last phase of a trial that is not stopped."""
        return self.plan.num_epochs


def run_trials(sweep: Sweep) -> None:
    """Runs the trials that have not ended.

    Raises:
        PhaseFailedError: where Tune ends before they do.
    """
    settings, plan, record = sweep.settings, sweep.plan, sweep.record
    listener = SweepCallback(record, plan, sweep.run)
    listener.track_ends()
    search = SweepSearch(
        record,
        partial(propose, settings.sweep, sweep.record.space, plan.config),
        num_combinations=sweep.num_combinations,
        seeds=settings.seeds,
        first_seed=plan.config.seed,
        on_start=listener.start,
    )
    concurrent = _concurrency(settings, plan.allocation)
    print(_describe(sweep, concurrent), flush=True)
    _set_up_tune()
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(run_trial, plan=plan), _resources(plan.allocation)
        ),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=_scheduler(sweep),
            num_samples=-1,
            max_concurrent_trials=concurrent,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=TUNE_FOLDER,
            storage_path=record.storage.url,
            callbacks=[listener],
            failure_config=tune.FailureConfig(max_failures=plan.max_failures),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except tune.TuneError as error:
        raise PhaseFailedError(f"{sweep.run.name}: {error}") from error
    left = [trial.name for trial in record.trials if trial.state == "running"]
    if left:
        raise PhaseFailedError(
            f"the sweep ended before {', '.join(left)} did: the same command with --run-name "
            f"{sweep.run.name} goes on with it"
        )


def _scheduler(sweep: Sweep) -> Pruner | None:
    if sweep.settings.sweep.scheduler == "none":
        return None
    return Pruner(sweep.settings.sweep, sweep.num_epochs, sweep.record.trials)


def _set_up_tune() -> None:
    """Switches off Tune's own tables and logs, and its handler of Ctrl-C, which saves a state that
    nothing here reads."""
    for name, value in (
        ("RAY_AIR_NEW_OUTPUT", "0"),
        ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"),
        ("TUNE_DISABLE_SIGINT_HANDLER", "1"),
    ):
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)


def _resources(allocation: WorkerAllocation) -> dict[str, float]:
    """Returns the resources of a trial's own process.

    Where a trial has further workers, they have the CPUs: were its process to hold some while it
    waits for the workers, trials could wait for each other for ever.
    """
    if allocation.num_workers > 1:
        return {"memory": 1}  # a byte; Tune refuses to ask for nothing
    return {"cpu": allocation.cpus_per_worker, **({"gpu": 1} if allocation.use_gpu else {})}


def _concurrency(settings: SweepJobConfig, allocation: WorkerAllocation) -> int:
    fitting = num_concurrent(allocation)
    most = settings.sweep.max_concurrent
    return fitting if most == "auto" else min(most, fitting)


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial"])


def _describe(sweep: Sweep, concurrent: int) -> str:
    settings = sweep.settings
    done = sum(trial.state not in ("running", "failed") for trial in sweep.record.trials)
    lines = [
        f"sweep of {sweep.num_combinations} combinations x {settings.seeds} seeds by "
        f"{settings.sweep.search}, {settings.sweep.scheduler}: {' '.join(sweep.plan.phases)}, "
        f"{sweep.num_epochs} epochs, {concurrent} at a time; {done} trials are done",
        *(f"space {name}: {format_space(one)}" for name, one in sweep.record.space.items()),
    ]
    return "\n".join(lines)
