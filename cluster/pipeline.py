"""The main job: phases one after another, evaluation, report and model, tracked in MLflow."""

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import ray.train

from cluster.config import EvaluateConfig, JobConfig
from cluster.datasets import ShardedData, demo_data
from cluster.evaluation import score
from cluster.launch import Report, run_on_workers
from cluster.model_card import git_commit, model_card
from cluster.models import resolve_model
from cluster.places import resolve_storage
from cluster.resources import Share, join_cluster, require_shared, take_share
from cluster.run_record import RunRecord
from cluster.tracking import Run, Tracker, run_tags
from cluster.worker import TrainTask, load_from, train
from stn_icnn.checkpoint import MODEL_FILE
from stn_icnn.config import PhaseName, TrainConfig, to_dict
from stn_icnn.phases import PHASES

REPORT = "report"
MODEL_ARTIFACT = "model"


class TrainingDivergedError(RuntimeError):
    """A phase's loss stopped being a finite number."""


def training_of(job: JobConfig) -> TrainConfig:
    """The part of a job's settings that its result depends on."""
    return TrainConfig(**{f.name: getattr(job, f.name) for f in fields(TrainConfig)})


def run_end_to_end(job: JobConfig, preset: str) -> dict[str, Any]:
    """Trains the three phases, scores the model on the test split, and registers it.

    Args:
        job: all settings.
        preset: that they started from, for the record.

    Returns:
        The job's last line: `run_id`, `run_name`, `model`, `test` (F1 rows), `systems`, …

    Raises:
        ValueError: for settings, data or resources that can't be used, before any training.
        TrackingUnavailableError: where the tracking server is away at the start.
        TrainingDivergedError: where a loss is not finite any more.
        ray.train.TrainingFailedError: where workers failed more often than allowed.
    """
    storage = resolve_storage(job.storage)
    tracker = Tracker.connect(job.tracking_uri)
    run_name = job.run_name or f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}"
    print(f"run {run_name}\nstorage {storage}\ntracking {tracker.uri}", flush=True)
    data = _open_data(job, preset, storage)
    config = training_of(job)
    record = RunRecord.open(f"{storage}/{run_name}", config, data.manifest.fingerprint)
    may_grow = join_cluster()
    share = take_share(job.scaling, may_grow)
    require_shared(storage)
    print(f"training on {share}", flush=True)
    tags = run_tags(data.manifest.fingerprint, preset)
    parent = tracker.start_or_resume_run(run_name, tags=tags, params=to_dict(config))
    with parent.finishing():
        for phase in PHASES:
            _train_phase(phase, job, config, data, record, share, parent)
        result = _conclude(preset, config, data, record, share, parent)
    return _with_undelivered(tracker, result)


def _open_data(job: JobConfig, preset: str, storage: str) -> ShardedData:
    if job.data is not None:
        data = ShardedData.open(job.data)
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


def run_evaluation(job: EvaluateConfig) -> dict[str, Any]:
    """Scores a model on a split, beside its coarse network and the mean label map.

    Returns:
        The job's last line: `run_id`, `model`, the split's F1 rows under its name, `systems`.

    Raises:
        ValueError: for a model, data or resources that can't be used.
        TrackingUnavailableError: where the tracking server is away at the start.
        ray.train.TrainingFailedError: where workers failed more often than allowed.
    """
    storage = resolve_storage(job.storage)
    tracker = Tracker.connect(job.tracking_uri)
    data = ShardedData.open(job.data)
    data.shards(job.split)
    model = resolve_model(job.model, tracker.uri)
    share = take_share(job.scaling, join_cluster())
    require_shared(storage)
    run_name = job.run_name or f"evaluate-{time.strftime('%Y%m%d-%H%M%S')}"
    tags = {**run_tags(data.manifest.fingerprint, None), "model": job.model, "split": job.split}
    run = tracker.start_or_resume_run(run_name, tags=tags)
    with run.finishing(), tempfile.TemporaryDirectory(prefix="stn-icnn-report-") as name:
        scores = score(
            model,
            data,
            job.split,
            Path(name),
            storage=storage,
            share=share,
            max_failures=job.scaling.max_failures,
            title=f"{job.model} on the {job.split} split of {data.name}",
        )
        run.log_artifacts(name, REPORT)
        run.log_metrics(split_metrics(scores.model, job.split), step=0)
    return _with_undelivered(
        tracker,
        {
            "run_id": run.run_id,
            "run_name": run_name,
            "model": job.model,
            "data_fingerprint": data.manifest.fingerprint,
            job.split: scores.model,
            "systems": scores.overall,
        },
    )


def _with_undelivered(tracker: Tracker, result: dict[str, Any]) -> dict[str, Any]:
    """The last line, naming the file of what MLflow has not got, if there is one."""
    left = tracker.undelivered
    return {**result, "undelivered": str(left)} if left else result


def _train_phase(
    phase: PhaseName,
    job: JobConfig,
    config: TrainConfig,
    data: ShardedData,
    record: RunRecord,
    share: Share,
    parent: Run,
) -> None:
    """Trains a phase as one Ray run and one child run, unless it is finished."""
    if record.has_finished(phase):
        print(f"{phase}: finished before", flush=True)
        return
    before = PHASES[: PHASES.index(phase)]
    task = TrainTask(
        phase=phase,
        config=config,
        data=data.facts,
        train_shards=data.shards("train"),
        val_shards=data.shards("val"),
        start=record.checkpoint(before[-1]) if before else None,
        loader_processes=share.loader_processes,
    )
    child = parent.tracker.start_or_resume_run(phase, parent.run_id, tags={"phase": phase})
    with child.finishing():
        result = run_on_workers(
            train,
            task,
            name=phase,
            storage=record.storage,
            share=share,
            max_failures=job.scaling.max_failures,
            on_report=_Listener(phase, config.optim.epochs(phase), child),
        )
        if result.return_value is not None:
            raise TrainingDivergedError(result.return_value)
        record.finish(phase)
        _log_model(child, record.checkpoint(phase))


class _Listener:
    """Logs a phase's reports and prints a line for each."""

    def __init__(self, phase: PhaseName, num_epochs: int, run: Run) -> None:
        self.phase = phase
        self.num_epochs = num_epochs
        self.run = run

    def __call__(self, report: Report) -> None:
        if "failed" in report:
            print(f"{self.phase}: workers failed: {report['failed']}", flush=True)
            return
        epoch = int(report["epoch"])
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


def _log_model(run: Run, checkpoint: ray.train.Checkpoint) -> None:
    """Stores a phase's model, without the state of its training."""
    with checkpoint.as_directory() as kept, tempfile.TemporaryDirectory() as folder:
        shutil.copy(Path(kept) / MODEL_FILE, folder)
        run.log_artifacts(folder, MODEL_ARTIFACT)


def _conclude(
    preset: str,
    config: TrainConfig,
    data: ShardedData,
    record: RunRecord,
    share: Share,
    parent: Run,
) -> dict[str, Any]:
    """Evaluates, reports and registers the model of the last phase."""
    checkpoint = record.checkpoint(PHASES[-1])
    with tempfile.TemporaryDirectory(prefix="stn-icnn-report-") as name:
        scores = score(
            checkpoint,
            data,
            "test",
            Path(name),
            storage=record.storage,
            share=share,
            title=f"{parent.name} on the test split of {data.name}",
        )
        parent.log_artifacts(name, REPORT)
    parent.log_metrics(split_metrics(scores.model, "test"), step=0)
    _log_model(parent, checkpoint)
    val = _validation_of(checkpoint)
    parent.log_metrics(val, step=0)
    model_name = f"stn-icnn-{data.name}"
    val_rows = {k.removeprefix("val/f1_"): v for k, v in val.items() if k.startswith("val/f1_")}
    version = parent.tracker.register_model(
        model_name,
        parent,
        MODEL_ARTIFACT,
        card=model_card(
            name=model_name,
            dataset=data.name,
            data_fingerprint=data.manifest.fingerprint,
            num_images=data.manifest.num_samples["train"],
            preset=preset,
            config=config,
            val_f1=val_rows,
            test_f1=scores.model,
            run_id=parent.run_id,
            commit=git_commit(),
        ),
        metrics={**val, **split_metrics(scores.model, "test")},
        data_fingerprint=data.manifest.fingerprint,
        tags={"preset": preset},
    )
    return {
        "run_id": parent.run_id,
        "run_name": parent.name,
        "model": f"models:/{model_name}/{version}" if version else None,
        "checkpoint": f"{record.storage}/{PHASES[-1]}/{Path(checkpoint.path).name}",
        "data_fingerprint": data.manifest.fingerprint,
        "test": scores.model,
        "systems": scores.overall,
    }


def split_metrics(rows: Mapping[str, float | None], split: str) -> dict[str, float | None]:
    """F1 rows by their names in MLflow."""
    return {f"{split}/f1_{name}": value for name, value in rows.items()}


def _validation_of(checkpoint: ray.train.Checkpoint) -> dict[str, float]:
    """The metrics by which a checkpoint's model was selected."""
    return load_from(checkpoint).metrics
