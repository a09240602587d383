"""The sweep job: trains trials under Ray Tune, tracks them in MLflow, and reports on them."""

import hashlib
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cluster.job_ending import parse_command, print_ending
from cluster.job_setup import JobEnvironment, allocate_job_workers, open_job
from cluster.run_notes import (
    BEST_SCORE,
    data_params,
    log_machines,
    log_weakest_class,
    origin_sentence,
    result_note,
    unfinished_note,
    validation_rows,
    weakest_class,
)
from cluster.shell_commands import typed_command
from cluster.sweep.config import DEFAULT_SPACES, SweepJobConfig
from cluster.sweep.proposals import count_combinations, require_grid
from cluster.sweep.report import RankedCombination, SweepReport, write_sweep_report
from cluster.sweep.searched_settings import read_search_space, replace_settings
from cluster.sweep.spaces import SearchSpace, all_values, end_values
from cluster.sweep.sweep_record import SweepRecord
from cluster.sweep.trial_training import TrialPlan, require_trained_start
from cluster.sweep.tune_run import Sweep, run_trials
from cluster.tracking.mlflow_model import MODEL_ARTIFACT, log_mlflow_model
from cluster.tracking.result_files import closing_blocks
from cluster.tracking.run_pages import list_options
from cluster.tracking.stored_models import FetchedModel
from cluster.tracking.tracker import run_tags
from cluster.training.base_settings import BaseSettings
from cluster.training.phase_training import config_json
from cluster.training.setup import (
    open_data,
    require_batches,
    require_canvas,
    require_labels,
    require_localizer,
)
from cluster.workers.errors import PhaseFailedError
from stn_icnn.config import TrainConfig
from stn_icnn.networks.checkpoint import Checkpoint, load_checkpoint
from stn_icnn.reporting.run_results import REPORT_FOLDER
from stn_icnn.training.initialization import initialize_model
from stn_icnn.training.phases import PHASES

BEST_FILE = "best.json"


def run_sweep(settings: SweepJobConfig, preset: str) -> dict[str, Any]:
    """Tries combinations of settings, reports on them, and stores the best one as a file.

    Args:
        settings: the job's settings.
        preset: name of the preset that they started from, for the record.

    Returns:
        The job's last line: `run_id`, `run_name`, `best` (trial, score, values), `config` (a file
        that `jobs/e2e.py --config` takes), `trials` by state, `epochs` trained and saved, …

    Raises:
        ValueError: for settings, data or resources that cannot be used, before any training.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where no trial came to its end.
    """
    sweep = _open_sweep(settings, preset)
    with sweep.run.finishing():
        sweep.run.describe(unfinished_note(sweep.run.name))
        run_trials(sweep)
        ending = _conclude(sweep)
        sweep.run.describe(result_note(ending.headline, ending.origin, ending.next_steps))
    print_ending(sweep.run, ending.headline, ending.next_steps)
    return sweep.run.last_line(ending.result)


def _open_sweep(settings: SweepJobConfig, preset: str) -> Sweep:
    """Checks a sweep's settings, and opens its data, workers, record and run."""
    config, sweep = settings.training, settings.sweep
    space = read_search_space(settings.space, DEFAULT_SPACES, config, sweep.phases)
    if any("localizer" in PHASES[phase].trained_networks for phase in sweep.phases):
        require_localizer(config)
    num_combinations = int(min(settings.num_trials, count_combinations(space)))
    if sweep.search == "grid":
        require_grid(space, settings.num_trials)
    environment = open_job(settings.locations, settings.run_name, f"sweep-{preset}")
    data = open_data(settings, preset, environment.storage)
    for canvas in _with_values(space, config, "model.canvas_px"):
        require_canvas(canvas, data)
        require_labels(canvas, data)
    start = _start_model(settings, space, config, environment)
    scaling = settings.scaling
    if scaling.cpus_per_worker == "auto":
        scaling = replace(scaling, cpus_per_worker=1)
    allocation = allocate_job_workers(environment, data, scaling, most_workers=1)
    for batch in _with_values(space, config, "optim.global_batch", "augment.copies"):
        require_batches(batch, data, allocation)
    plan = TrialPlan(
        config=config,
        phases=sweep.phases,
        data=data,
        start=start,
        storage=environment.run_storage,
        allocation=allocation,
    )
    record = SweepRecord.open(plan.storage, _content(settings, plan), space)
    tags = {**run_tags(data.manifest.fingerprint, preset), "kind": "sweep"}
    run = environment.tracker.start_or_resume_run(
        environment.run_name,
        tags=tags,
        params={
            **_params(settings, record),
            **asdict(config),
            **data_params(data),
        },
    )
    run.log_data(data, ["train", "val"])
    base = BaseSettings.of_preset(preset)
    return Sweep(settings, num_combinations, plan, record, run, base)


def _start_model(
    settings: SweepJobConfig,
    space: SearchSpace,
    config: TrainConfig,
    environment: JobEnvironment,
) -> bytes | None:
    """Fetches the model that trials start from; refuses one that does not fit them."""
    start = None
    if settings.sweep.start is not None:
        model = FetchedModel.fetch(settings.sweep.start, environment.tracker.uri)
        start = model.content
        sizes = ("model.coarse_px", "model.kernel_size", "model.learn_scale")
        for sized in _with_values(space, config, *sizes):
            try:
                initialize_model(model.checkpoint, sized)
            except ValueError as error:
                raise ValueError(f"sweep.start: {error}") from error
    require_trained_start(settings.sweep.phases, start)
    return start


def _with_values(space: SearchSpace, config: TrainConfig, *names: str) -> Iterator[TrainConfig]:
    """Yields the settings as they are, then with each listed value, or end, of some searched ones.

    Args:
        space: what is searched.
        config: the settings that trials start from.
        names: dotted names of the settings to vary, as far as they are searched.
    """
    yield config
    for name in names:
        if name in space:
            values = all_values(space[name]) or end_values(space[name])
            yield from (replace_settings(config, {name: value}) for value in values)


def _content(settings: SweepJobConfig, plan: TrialPlan) -> dict[str, Any]:
    """Returns the settings that must be the same when a sweep goes on; `num_trials` may grow."""
    sweep = asdict(settings.sweep)
    del sweep["start"], sweep["max_concurrent"]
    return {
        "config": asdict(plan.config),
        "sweep": sweep,
        "start_sha256": plan.start and hashlib.sha256(plan.start).hexdigest(),
        "seeds": settings.seeds,
        "num_workers": plan.allocation.num_workers,
        "data_fingerprint": plan.data.manifest.fingerprint,
    }


def _params(settings: SweepJobConfig, record: SweepRecord) -> dict[str, Any]:
    return {
        "num_trials": settings.num_trials,
        "seeds": settings.seeds,
        "sweep": asdict(settings.sweep),
        "space": record.content["space"],
    }


@dataclass(frozen=True)
class SweepEnding:
    """The result of a sweep, for people and for programs."""

    headline: str
    origin: str
    """What it came of, in a sentence."""
    next_steps: Mapping[str, str]
    """Commands by what they do, in a word."""
    result: Mapping[str, Any]
    """The result for the job's last line."""


def _conclude(sweep: Sweep) -> SweepEnding:
    """Reports on the sweep, and stores its best combination and model."""
    report = SweepReport(
        title=sweep.run.name,
        metric=sweep.plan.metric,
        space=sweep.record.space,
        trials=sweep.record.trials,
        num_epochs=sweep.plan.num_epochs,
        seeds=sweep.settings.seeds,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compared = sweep.base.compare(sweep.plan.config)
        write_sweep_report(folder, report, closing_blocks(sweep.run, compared))
        sweep.run.log_artifacts(folder, REPORT_FOLDER)
        print((folder / "sweep.md").read_text(), flush=True)
    best = report.best
    if best is None:
        errors = {trial.name: trial.error for trial in sweep.record.trials}
        raise PhaseFailedError(f"no trial of {sweep.run.name} came to its end: {errors}")
    weakest = _log_columns(sweep, report, best, _store_best(sweep, best))
    trial, metric, storage = best.trials[0].name, report.metric.name, sweep.record.storage
    headline = f"best of {len(report.trials)} trials: {trial}, {metric} {best.metric.mean:.3f}"
    num_images = sweep.plan.data.manifest.num_samples["train"]
    return SweepEnding(
        headline if weakest is None else f"{headline}, weakest {weakest}",
        origin=origin_sentence("Trials trained", num_images, report.minutes, report.machines),
        next_steps=_next_steps(sweep),
        result={
            "best": {"trial": trial, metric: best.metric.mean, "values": best.values},
            "config": storage.url_of(BEST_FILE),
            "trials": report.states,
            "epochs": report.epochs,
            "storage": storage.url,
            "data_fingerprint": sweep.plan.data.manifest.fingerprint,
        },
    )


def _log_columns(
    sweep: Sweep, report: SweepReport, best: RankedCombination, model: Checkpoint
) -> str | None:
    """Logs what the list of runs shows of a sweep; returns the best model's weakest class."""
    run, label_set = sweep.run, model.model.label_set
    # A metric of a step counts once, and a sweep that goes on has others.
    step = sum(trial.epochs for trial in report.trials)
    best_metric = {
        f"best_{report.metric.name}": best.metric.mean,
        BEST_SCORE: report.metric.score(best.metric.mean),
    }
    run.log_metrics({**model.metrics, **report.numbers, **best_metric}, step=step)
    log_machines(run, report.machines, report.minutes, step=step)
    rows = validation_rows(model.metrics, label_set)
    log_weakest_class(run, rows, label_set)
    return weakest_class(rows, label_set)


def _next_steps(sweep: Sweep) -> dict[str, str]:
    """Returns the commands that go on with the best settings and, where it can parse, the model."""
    config = shlex.quote(sweep.record.storage.url_of(BEST_FILE))
    data = shlex.quote(sweep.plan.data.location.url)
    options = f"--config {config} --data {data}{list_options(sweep.run)}"
    steps = {"train": f"{typed_command('python')} jobs/e2e.py {options}"}
    if PHASES[sweep.plan.phases[-1]].system is None:
        return steps  # it lacks a trained network
    model = f"runs:/{sweep.run.run_id}/{MODEL_ARTIFACT}"
    return {**steps, "parse": parse_command(sweep.run, model)}


def _store_best(sweep: Sweep, best: RankedCombination) -> Checkpoint:
    """Stores the best settings as a file that `--config` takes, and their first trial's model.

    Returns:
        The model.
    """
    config = replace_settings(sweep.plan.config, best.values)
    content = config_json(config)
    sweep.record.storage.write(BEST_FILE, content)
    trial = best.trials[0].name
    sweep.run.log_file(BEST_FILE, content)
    model = sweep.plan.model(trial, sweep.plan.phases[-1])
    log_mlflow_model(sweep.run, model)
    sweep.run.set_tags({"best_trial": trial})
    return load_checkpoint(model)
