"""The sweep: Ray Tune over trials that each are a training, tracked in MLflow, with a report."""

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from cluster.beginning import JobPlaces, join, open_places
from cluster.config import ScalingConfig
from cluster.datasets import ShardedData
from cluster.launch import PhaseFailedError
from cluster.models import resolve_model
from cluster.pipeline import (
    MODEL_ARTIFACT,
    open_data,
    require_batches,
    require_canvas,
    training_of,
)
from cluster.proposals import propose, require_grid, require_search
from cluster.resources import Share, num_fitting
from cluster.run_record import new_run_name
from cluster.spaces import Space, applied, read_spaces
from cluster.sweep_config import SweepJobConfig
from cluster.sweep_listener import SweepListener
from cluster.sweep_record import SweepRecord
from cluster.sweep_report import SweepReport, write_sweep_report
from cluster.sweep_search import Pruner, SweepSearch
from cluster.tracking import Run, run_tags
from cluster.trial import JUDGED_BY, TrialPlan, fitted, run_trial
from sharding.storage import open_place
from stn_icnn.checkpoint import MODEL_FILE, find_model_file
from stn_icnn.config import TrainConfig, to_dict

REPORT_ARTIFACT = "report"
BEST_FILE = "best.json"
TUNE_FOLDER = "tune"


@dataclass(frozen=True)
class Sweep:
    """A sweep that has all it needs."""

    settings: SweepJobConfig
    spaces: tuple[Space, ...]
    num_settings: int
    plan: TrialPlan
    record: SweepRecord
    run: Run

    @property
    def num_epochs(self) -> int:
        """Of the last phase of a trial that is not stopped."""
        return self.plan.config.optim.epochs(self.plan.phases[-1])


def run_sweep(settings: SweepJobConfig, preset: str) -> dict[str, Any]:
    """Tries settings, reports on them, and writes the best one as a file.

    Args:
        settings: all of the job's.
        preset: that they started from, for the record.

    Returns:
        The job's last line: `run_id`, `run_name`, `best` (trial, score, values), `config` (a file
        that `jobs/e2e.py --config` takes), `trials` by state, `epochs` trained and saved, …

    Raises:
        ValueError: for settings, data or resources that can't be used, before any training.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where no trial came to its end.
    """
    config, sweep = training_of(settings), settings.sweep
    require_search(sweep)
    spaces = read_spaces(settings.space.given(), config, sweep.phases)
    num_settings = settings.num_trials
    if sweep.search == "grid":
        num_settings = require_grid(spaces, settings.num_trials)
    places = open_places(settings, settings.run_name or new_run_name(f"sweep-{preset}"))
    data = open_data(settings, preset, places.storage)
    require_canvas(config, data)
    start = _start_model(settings, spaces, config, places)
    share = join(places, data, _trial_scaling(settings.scaling), most_workers=1)
    for batch in _batches(spaces, config):
        require_batches(batch, data, share)
    plan = TrialPlan(
        config=config,
        phases=sweep.phases,
        data=data.facts,
        train_shards=data.shards("train"),
        val_shards=data.shards("val"),
        start=start,
        storage=f"{places.storage}/{places.run_name}",
        share=share,
        max_failures=settings.scaling.max_failures,
    )
    record = SweepRecord.open(plan.storage, _content(settings, spaces, plan, data))
    tags = {**run_tags(data.manifest.fingerprint, preset), "kind": "sweep"}
    run = places.tracker.start_or_resume_run(
        places.run_name, tags=tags, params={**_params(settings, spaces), **to_dict(config)}
    )
    with run.finishing():
        ours = Sweep(settings, spaces, num_settings, plan, record, run)
        _try_all(ours)
        result = _conclude(ours)
    return places.tracker.last_line(result)


def _trial_scaling(scaling: ScalingConfig) -> ScalingConfig:
    """What a trial takes: where nothing is said, one worker with one CPU."""
    workers, cpus = scaling.num_workers, scaling.cpus_per_worker
    return replace(
        scaling,
        num_workers=1 if workers == "auto" else workers,
        cpus_per_worker=1 if cpus == "auto" else cpus,
    )


def _start_model(
    settings: SweepJobConfig, spaces: tuple[Space, ...], config: TrainConfig, places: JobPlaces
) -> bytes | None:
    """The model that trials start from, if it fits them."""
    if settings.sweep.start is None:
        if settings.sweep.phases[0] in ("localizer", "end_to_end"):
            raise ValueError(
                f"sweep.phases begins with {settings.sweep.phases[0]}, which needs trained "
                "networks: give sweep.start, or begin with coarse (or fine, which needs none)"
            )
        return None
    path = resolve_model(settings.sweep.start, places.tracker.uri)
    start = find_model_file(path).read_bytes()
    for config_of_corner in _corners(spaces, config):
        fitted(start, config_of_corner)
    return start


def _corners(spaces: tuple[Space, ...], config: TrainConfig) -> list[TrainConfig]:
    """The settings with each searched one at its ends."""
    return [config, *(applied(config, {s.name: end}) for s in spaces for end in s.ends)]


def _batches(spaces: tuple[Space, ...], config: TrainConfig) -> list[TrainConfig]:
    of_batches = tuple(space for space in spaces if space.name == "optim.global_batch")
    return _corners(of_batches, config)


def _content(
    settings: SweepJobConfig, spaces: tuple[Space, ...], plan: TrialPlan, data: ShardedData
) -> dict[str, Any]:
    """What a sweep is gone on with as it was started. More trials may be asked for."""
    sweep = to_dict(settings.sweep)
    del sweep["start"], sweep["max_concurrent"]
    content = {
        "config": to_dict(plan.config),
        "sweep": sweep,
        "start_sha256": plan.start and hashlib.sha256(plan.start).hexdigest(),
        "space": {space.name: str(space) for space in spaces},
        "seeds": settings.seeds,
        "num_workers": plan.share.num_workers,
        "data_fingerprint": data.manifest.fingerprint,
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _params(settings: SweepJobConfig, spaces: tuple[Space, ...]) -> dict[str, Any]:
    return {
        "num_trials": settings.num_trials,
        "seeds": settings.seeds,
        "sweep": to_dict(settings.sweep),
        "space": {space.name: str(space) for space in spaces},
    }


def _try_all(sweep: Sweep) -> None:
    """Runs the trials that are not done.

    Raises:
        PhaseFailedError: where Tune ends before they are.
    """
    settings, plan, record = sweep.settings, sweep.plan, sweep.record
    listener = SweepListener(record, plan, sweep.run)
    listener.track_ends()
    search = SweepSearch(
        record,
        partial(propose, settings.sweep, sweep.spaces, plan.config),
        num_settings=sweep.num_settings,
        seeds=settings.seeds,
        first_seed=plan.config.seed,
        on_start=listener.start,
    )
    concurrent = _concurrency(settings, plan.share)
    print(_described(sweep, concurrent), flush=True)
    _set_tune_up()
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, plan=plan), _resources(plan.share)),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=_scheduler(sweep),
            num_samples=-1,
            max_concurrent_trials=concurrent,
            trial_name_creator=_name_of,
            trial_dirname_creator=_name_of,
        ),
        run_config=tune.RunConfig(
            name=TUNE_FOLDER,
            storage_path=record.storage,
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


def _set_tune_up() -> None:
    """Keeps Tune from writing its own tables and logs, and from taking Ctrl-C for a wish to end
    well: what it would save is in the record already."""
    for name, value in (
        ("RAY_AIR_NEW_OUTPUT", "0"),
        ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"),
        ("TUNE_DISABLE_SIGINT_HANDLER", "1"),
    ):
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)


def _resources(share: Share) -> dict[str, float]:
    """Of a trial's own process. Workers of their own have theirs: were it to hold CPUs while it
    waits for them, trials could wait for each other for ever."""
    if share.num_workers > 1:
        return {"memory": 1}  # a byte; Tune refuses to ask for nothing
    return {"cpu": share.cpus_per_worker, **({"gpu": 1} if share.use_gpu else {})}


def _concurrency(settings: SweepJobConfig, share: Share) -> int:
    fitting = num_fitting(share)
    most = settings.sweep.max_concurrent
    return fitting if most == "auto" else min(most, fitting)


def _name_of(trial: Any) -> str:
    return str(trial.config["trial"])


def _described(sweep: Sweep, concurrent: int) -> str:
    settings = sweep.settings
    done = sum(trial.state != "running" for trial in sweep.record.trials)
    lines = [
        f"sweep of {sweep.num_settings} settings x {settings.seeds} seeds by "
        f"{settings.sweep.search}, {settings.sweep.scheduler}: {' '.join(sweep.plan.phases)}, "
        f"{sweep.num_epochs} epochs, {concurrent} at a time; {done} trials are done",
        *(f"space {space.name}: {space}" for space in sweep.spaces),
    ]
    return "\n".join(lines)


def _conclude(sweep: Sweep) -> dict[str, Any]:
    """Reports on the sweep and keeps its best setting and model."""
    report = SweepReport(
        title=sweep.run.name,
        metric=JUDGED_BY[sweep.plan.phases[-1]],
        spaces=sweep.spaces,
        trials=sweep.record.trials,
        num_epochs=sweep.num_epochs,
        seeds=sweep.settings.seeds,
    )
    best = report.best
    if best is None:
        errors = {trial.name: trial.error for trial in sweep.record.trials}
        raise PhaseFailedError(f"no trial of {sweep.run.name} came to its end: {errors}")
    config = applied(sweep.plan.config, best.values)
    text = json.dumps(to_dict(config), indent=1) + "\n"
    open_place(sweep.record.storage).write(BEST_FILE, text.encode())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sweep_report(folder, report)
        sweep.run.log_artifacts(folder, REPORT_ARTIFACT)
        print((folder / "sweep.md").read_text(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / BEST_FILE).write_text(text)
        sweep.run.log_artifacts(Path(name) / BEST_FILE)
        model = sweep.plan.model(best.trials[0].name, sweep.plan.phases[-1])
        (Path(name) / MODEL_FILE).write_bytes(model)
        sweep.run.log_artifacts(Path(name) / MODEL_FILE, MODEL_ARTIFACT)
    sweep.run.log_metrics({**report.numbers, f"best_{report.metric}": best.shown.mean}, step=0)
    sweep.run.set_tags({"best_trial": best.trials[0].name})
    return {
        "run_id": sweep.run.run_id,
        "run_name": sweep.run.name,
        "best": {
            "trial": best.trials[0].name,
            report.metric: best.shown.mean,
            "values": best.values,
        },
        "config": f"{sweep.record.storage}/{BEST_FILE}",
        "trials": report.states,
        "epochs": report.epochs,
        "storage": sweep.record.storage,
        "data_fingerprint": sweep.plan.data.fingerprint,
    }
