"""The main job: phases one after another, evaluation, report and model, tracked in MLflow."""

import json
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cluster.beginning import join, open_places
from cluster.config import JobConfig
from cluster.datasets import ShardedData, demo_data
from cluster.evaluation import Scores, score
from cluster.launch import PhaseFailedError, Report, run_on_workers
from cluster.model_card import model_card
from cluster.provenance import git_commit
from cluster.resources import Share
from cluster.run_record import RunRecord, new_run_name
from cluster.tracking import Run, run_tags
from cluster.worker import TrainTask, train
from stn_icnn.checkpoint import MODEL_FILE, load_checkpoint
from stn_icnn.config import PhaseName, TrainConfig
from stn_icnn.config_dict import to_dict
from stn_icnn.data import plan_epoch
from stn_icnn.phases import PHASES

MODEL_ARTIFACT = "model"
CONFIG_FILE = "config.json"
LEAST_IMAGES_A_WORKER = 4
"""Of a batch, where the number of workers is `auto`: batch norm has no use for fewer."""


@dataclass(frozen=True)
class Job:
    """A training job that has all it needs."""

    preset: str
    config: TrainConfig
    data: ShardedData
    record: RunRecord
    share: Share
    max_failures: int
    run: Run


def training_of(settings: JobConfig) -> TrainConfig:
    """The part of a job's settings that its result depends on."""
    return TrainConfig(**{f.name: getattr(settings, f.name) for f in fields(TrainConfig)})


def run_end_to_end(settings: JobConfig, preset: str) -> dict[str, Any]:
    """Trains the three phases, scores the model on the test split, and registers it.

    Args:
        settings: all of the job's.
        preset: that they started from, for the record.

    Returns:
        The job's last line: `run_id`, `run_name`, `model`, `test` (F1 rows), `systems`, …

    Raises:
        ValueError: for settings, data or resources that can't be used, before any training.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where a loss is not finite any more, or workers failed too often.
    """
    places = open_places(settings, settings.run_name or new_run_name(preset))
    data = open_data(settings, preset, places.storage)
    config = training_of(settings)
    require_canvas(config, data)
    most_workers = max(1, config.optim.global_batch // LEAST_IMAGES_A_WORKER)
    share = join(places, data, settings.scaling, most_workers)
    require_batches(config, data, share)
    tracker, run_name = places.tracker, places.run_name
    record = RunRecord.open(f"{places.storage}/{run_name}", config, data.manifest.fingerprint)
    tags = run_tags(data.manifest.fingerprint, preset)
    run = tracker.start_or_resume_run(run_name, tags=tags, params=to_dict(config))
    job = Job(preset, config, data, record, share, settings.scaling.max_failures, run)
    with run.finishing():
        _log_config(job)
        for phase in PHASES:
            _train_phase(job, phase)
        result = _conclude(job)
    return tracker.last_line(result)


def open_data(settings: JobConfig, preset: str, storage: str) -> ShardedData:
    """The data that a job trains on; the demo's own where it is given none.

    Raises:
        ValueError: where there are none, or a split of them is empty.
    """
    if settings.data is not None:
        data = ShardedData.open(settings.data)
    elif preset == "demo":
        data = demo_data(storage)
    else:
        raise ValueError(
            f"the preset {preset} needs --data: a folder or s3://BUCKET/PREFIX of shards, made "
            "with: python -m sharding celebamask|helen --source RAW --out OUT"
        )
    for split in ("train", "val", "test"):
        data.shards(split)
    print(f"data {data.place}: {data.manifest.num_samples}", flush=True)
    return data


def require_canvas(config: TrainConfig, data: ShardedData) -> None:
    """Refuses images that a worker would refuse later, one by one.

    Raises:
        ValueError: with the limit.
    """
    side, limit = data.manifest.scale.px, config.model.canvas_px
    if side > limit:
        raise ValueError(
            f"{data.place} has images of up to {side} px, over the canvas limit model.canvas_px = "
            f"{limit}: raise it"
        )


def require_batches(config: TrainConfig, data: ShardedData, share: Share) -> None:
    """Refuses more workers than the smallest global batch has images.

    Raises:
        ValueError: with both numbers.
    """
    num_images, optim = data.manifest.num_samples["train"], config.optim
    plan = plan_epoch(num_images, config.augment.copies, optim.global_batch, config.seed, 0)
    smallest = min(map(len, plan))
    if smallest < share.num_workers:
        raise ValueError(
            f"each worker needs an image of every batch: {share.num_workers} workers, but "
            f"{num_images} training images in batches of optim.global_batch = "
            f"{optim.global_batch} leave batches of {smallest}; raise it, or lower "
            "scaling.num_workers"
        )


def _train_phase(job: Job, phase: PhaseName) -> None:
    """Trains a phase as one Ray run and one child run, unless it is finished."""
    if job.record.has_finished(phase):
        print(f"{phase}: finished before", flush=True)
        return
    before = PHASES[: PHASES.index(phase)]
    task = TrainTask(
        phase=phase,
        config=job.config,
        data=job.data.facts,
        train_shards=job.data.shards("train"),
        val_shards=job.data.shards("val"),
        start=job.record.model(before[-1]) if before else None,
        loader_processes=job.share.loader_processes,
    )
    child = job.run.tracker.start_or_resume_run(phase, job.run.run_id, tags={"phase": phase})
    with child.finishing():
        result = run_on_workers(
            train,
            task,
            name=phase,
            storage=job.record.storage,
            share=job.share,
            max_failures=job.max_failures,
            on_report=_Listener(phase, job.config.optim.epochs(phase), child),
        )
        if result.return_value is not None:
            raise PhaseFailedError(result.return_value)
        _log_model(child, job.record.model(phase))
        job.record.finish(phase)


class _Listener:
    """Logs the epochs that a phase reports, and prints a line for each report."""

    def __init__(self, phase: PhaseName, num_epochs: int, run: Run) -> None:
        self.phase = phase
        self.num_epochs = num_epochs
        self.run = run

    def __call__(self, report: Report) -> None:
        if "failed" in report:
            print(f"{self.phase}: workers failed: {report['failed']}", flush=True)
            return
        epoch, step = int(report["epoch"]), int(report["step"])
        if step:
            print(f"{self.phase}: epoch {epoch + 1}, checkpoint after step {step}", flush=True)
            return
        self.run.log_metrics({k: v for k, v in report.items() if "/" in k}, step=epoch)
        shown = ", ".join(
            f"{name} {report[key]:.4g}"
            for key, name in (
                ("train/loss", "loss"),
                ("train/images_per_second", "images/s"),
                ("val/loss", "val loss"),
                ("val/f1_overall", "val F1"),
            )
            if key in report
        )
        print(f"{self.phase}: epoch {epoch} of {self.num_epochs}: {shown}", flush=True)


def _log_config(job: Job) -> None:
    """Stores the settings as a file that `--config` takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CONFIG_FILE
        path.write_text(json.dumps(to_dict(job.config), indent=1) + "\n")
        job.run.log_artifacts(path)


def _log_model(run: Run, model: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MODEL_FILE).write_bytes(model)
        run.log_artifacts(folder, MODEL_ARTIFACT)


def _conclude(job: Job) -> dict[str, Any]:
    """Evaluates, reports and registers the model of the last phase."""
    model = job.record.model(PHASES[-1])
    scores = score(
        model,
        job.data,
        "test",
        run=job.run,
        storage=job.record.storage,
        share=job.share,
        max_failures=job.max_failures,
    )
    val = load_checkpoint(model).metrics
    job.run.log_metrics(val, step=0)
    _log_model(job.run, model)
    name = f"stn-icnn-{job.data.name}"
    version = _register(job, name, val, scores)
    return {
        "run_id": job.run.run_id,
        "run_name": job.run.name,
        "model": f"models:/{name}/{version}" if version else None,
        "storage": job.record.storage,
        "data_fingerprint": job.data.manifest.fingerprint,
        "test": scores.model,
        "systems": scores.overall,
    }


def _register(job: Job, name: str, val: dict[str, float], scores: Scores) -> str | None:
    """Makes a version of the registered model, with its card."""
    fingerprint = job.data.manifest.fingerprint
    prefix = "val/f1_"
    card = model_card(
        name=name,
        dataset=job.data.name,
        data_fingerprint=fingerprint,
        num_images=job.data.manifest.num_samples["train"],
        preset=job.preset,
        config=job.config,
        val_f1={k.removeprefix(prefix): v for k, v in val.items() if k.startswith(prefix)},
        test_f1=scores.model,
        run_id=job.run.run_id,
        commit=git_commit(),
    )
    return job.run.tracker.register_model(
        name,
        job.run,
        MODEL_ARTIFACT,
        card=card,
        metrics=val,
        data_fingerprint=fingerprint,
        tags={"preset": job.preset},
    )
