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
from cluster.sweep.trial_progress import TrialProgress
from cluster.sweep.trial_training import TrialPlan, run_trial
from cluster.sweep.tune_callback import SweepCallback
from cluster.sweep.tune_scheduling import Pruner, SweepSearch
from cluster.tracking.tracker import Run
from cluster.training.base_settings import BaseSettings
from cluster.workers.allocation import WorkerAllocation, num_concurrent
from cluster.workers.errors import PhaseFailedError

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
    """The sweep's run in MLflow."""
    base: BaseSettings
    """The settings that its own are compared with."""


def run_trials(sweep: Sweep) -> None:
    """Runs the trials that have not ended.

    Raises:
        PhaseFailedError: where Tune ends before they do.
    """
    concurrent, most = num_concurrent(sweep.plan.allocation), sweep.settings.sweep.max_concurrent
    concurrent = concurrent if most == "auto" else min(most, concurrent)
    progress = TrialProgress(
        sweep.record.trials,
        sweep.plan.epochs,
        sweep.num_combinations,
        sweep.settings.seeds,
        concurrent,
    )
    callback = SweepCallback(sweep.record, sweep.plan, sweep.run, progress)
    callback.track_ends()
    print(_describe(sweep, concurrent), flush=True)
    _set_up_tune()
    try:
        _tuner(sweep, callback, concurrent).fit()
    except tune.TuneError as error:
        raise PhaseFailedError(f"{sweep.run.name}: {error}") from error
    unfinished = [trial.name for trial in sweep.record.trials if trial.state == "running"]
    if unfinished:
        raise PhaseFailedError(
            f"the sweep ended before {', '.join(unfinished)} did: the same command with --run-name "
            f"{sweep.run.name} goes on with it"
        )


def _tuner(sweep: Sweep, callback: SweepCallback, concurrent: int) -> tune.Tuner:
    """Returns Tune's runner of the trials that have not ended, so many at a time."""
    settings, plan, record = sweep.settings, sweep.plan, sweep.record
    search = SweepSearch(
        record,
        partial(propose, settings.sweep, record.space, plan.config),
        num_combinations=sweep.num_combinations,
        seeds=settings.seeds,
        first_seed=plan.config.seed,
        on_start=callback.start,
    )
    pruner = None
    if settings.sweep.scheduler == "asha":
        pruner = Pruner(settings.sweep, plan.num_epochs, record.trials)
    trainable = tune.with_parameters(run_trial, plan=plan)
    return tune.Tuner(
        tune.with_resources(trainable, _resources(plan.allocation)),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=pruner,
            num_samples=-1,
            max_concurrent_trials=concurrent,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=TUNE_FOLDER,
            storage_path=record.storage.url,
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=plan.allocation.max_failures),
            verbose=0,
        ),
    )


def _set_up_tune() -> None:
    """Switches off Tune's own tables and logs, and its handler of Ctrl-C.

    The handler saves a state that nothing here reads.
    """
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)


def _resources(allocation: WorkerAllocation) -> dict[str, float]:
    """Returns the resources of a trial's own process.

    Where a trial has further workers, they have the CPUs. If its process held some while it waits
    for the workers, trials could wait for each other for ever.
    """
    if allocation.num_workers > 1:
        return {"memory": 1}  # a byte: Tune refuses to ask for nothing
    return allocation.resources_per_worker


def _trial_name(trial: Any) -> str:
    return str(trial.config["trial"])


def _describe(sweep: Sweep, concurrent: int) -> str:
    settings = sweep.settings
    done = sum(trial.state not in ("running", "failed") for trial in sweep.record.trials)
    lines = [
        f"sweep of {sweep.num_combinations} combinations x {settings.seeds} seeds by "
        f"{settings.sweep.search}, {settings.sweep.scheduler}: {' '.join(sweep.plan.phases)}, "
        f"{sweep.plan.num_epochs} epochs, {concurrent} at a time; {done} trials are done",
        *(f"space {name}: {format_space(one)}" for name, one in sweep.record.space.items()),
    ]
    return "\n".join(lines)
