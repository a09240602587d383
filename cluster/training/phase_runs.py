"""Trains phases, each as a Ray Train run and a child run in MLflow, and checks what they need."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster.config import TrainingJobConfig
from cluster.job_setup import JobEnvironment, allocate_job_workers
from cluster.storage.datasets import ShardedData, demo_data
from cluster.tracking.tracker import Run, run_tags
from cluster.tracking.tracking_uri import unavailable
from cluster.training.run_record import RunRecord
from cluster.training.worker import Start, TrainTask, train
from cluster.workers.allocation import WorkerAllocation
from cluster.workers.launch import PhaseFailedError, Report, run_on_workers
from stn_icnn.config import TrainConfig, require
from stn_icnn.config_dict import to_dict
from stn_icnn.data.plan import plan_epoch
from stn_icnn.networks.checkpoint import MODEL_FILE
from stn_icnn.storage import StorageLocation
from stn_icnn.training.phases import PHASES, PhaseName

MODEL_ARTIFACT = "model"
CONFIG_FILE = "config.json"
LEAST_IMAGES_A_WORKER = 4
"""The least images of a batch for each worker, where the number of workers is `auto`: batch norm
needs as many."""


@dataclass(frozen=True)
class Training:
    """A training that can begin: the settings, data, storage and workers of its phases."""

    config: TrainConfig
    data: ShardedData
    record: RunRecord
    allocation: WorkerAllocation
    max_failures: int
    run: Run
    """The run in MLflow that the runs of its phases are children of."""
    chosen_images: int | None = None
    """How many of the training split it is trained on; None: all."""

    @property
    def num_images(self) -> int:
        """Number of images that it is trained on."""
        return self.chosen_images or self.data.manifest.num_samples["train"]


def open_training(
    settings: TrainingJobConfig,
    preset: str,
    environment: JobEnvironment,
    *,
    num_images: int | None = None,
    parent_sha256: str | None = None,
    kind: str | None = None,
    tags: Mapping[str, str | None] | None = None,
) -> Training:
    """Prepares a training: opens its data, gets its workers, and starts its record and its run.

    Args:
        settings: the job's settings.
        preset: name of the preset that they started from, for the record.
        environment: the job's environment.
        num_images: number of images of the training split that the seed chooses; None: all.
        parent_sha256: digest of the model file that it goes on from; None: of none.
        kind: kind of the job; None: the training job.
        tags: tags of the run besides those of every run.

    Raises:
        ValueError: for settings, data or resources that cannot be used.
        TrackingUnavailableError: where the tracking server is away.
    """
    data = open_data(settings, preset, environment.storage)
    config = settings.training
    require_canvas(config, data)
    require_localizer(config)
    require_images(data, num_images)
    most_workers = max(1, config.optim.global_batch // LEAST_IMAGES_A_WORKER)
    allocation = allocate_job_workers(environment, data, settings.scaling, most_workers)
    require_batches(config, data, allocation, num_images)
    fingerprint = data.manifest.fingerprint
    record = RunRecord.open(
        environment.run_storage,
        config,
        fingerprint,
        num_images,
        parent_sha256,
        kind,
    )
    run = environment.tracker.start_or_resume_run(
        environment.run_name,
        tags={**run_tags(fingerprint, preset), **(tags or {})},
        params={**to_dict(config), "num_images": num_images or "all"},
    )
    failures = settings.scaling.max_failures
    return Training(config, data, record, allocation, failures, run, num_images)


def branch(parent: Training, name: str, config: TrainConfig) -> Training:
    """Starts a training within another's run and storage, with other settings.

    Args:
        parent: the training whose data, images and workers it shares.
        name: name of its run, a child of the other's run, and of its folder.
        config: its settings.

    Raises:
        ValueError: naming the settings in which a training of this name was started otherwise.
        TrackingUnavailableError: where the tracking server is away: branch before training.
    """
    storage, fingerprint = parent.record.storage.child(name), parent.data.manifest.fingerprint
    record = RunRecord.open(storage, config, fingerprint, parent.chosen_images)
    run = start_child_run(parent.run, name, to_dict(config))
    return replace(parent, config=config, record=record, run=run)


def start_child_run(
    parent: Run, name: str, params: Mapping[str, Any], tags: Mapping[str, str | None] | None = None
) -> Run:
    """Starts or resumes a child run that gets children of its own.

    Raises:
        TrackingUnavailableError: where the tracking server is away, since the child's own children
            could not be put under it.
    """
    run = parent.tracker.start_or_resume_run(name, parent.run_id, tags=tags, params=params)
    if run.run_id is None:
        raise unavailable(parent.tracker.uri, ConnectionError("it went away while the job began"))
    return run


def open_data(settings: TrainingJobConfig, preset: str, storage: StorageLocation) -> ShardedData:
    """Returns the data set that a job trains on; the demo draws its own where it is given none.

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
    print(f"data {data.location.url}: {data.manifest.num_samples}", flush=True)
    return data


def require_localizer(config: TrainConfig) -> None:
    """Refuses the baseline's cropper where the paper's model is trained.

    Raises:
        ValueError: saying where it belongs.
    """
    require(
        config.model.cropper == "localizer",
        "model.cropper",
        "localizer (the phase baseline, of jobs/paper.py table, has the other one)",
        config.model.cropper,
    )


def require_canvas(config: TrainConfig, data: ShardedData) -> None:
    """Refuses images that a worker would refuse later, one by one.

    Raises:
        ValueError: with the limit.
    """
    side, limit = data.manifest.scale.px, config.model.canvas_px
    if side > limit:
        raise ValueError(
            f"{data.location.url} has images of up to {side} px, over the canvas limit "
            f"model.canvas_px = {limit}: raise it"
        )


def require_images(data: ShardedData, num_images: int | None) -> None:
    """Refuses to train on more images than there are.

    Raises:
        ValueError: with both numbers.
    """
    most = data.manifest.num_samples["train"]
    require(
        num_images is None or num_images <= most,
        "num_images",
        f"at most the {most} of the training split of {data.location.url}",
        num_images,
    )


def require_batches(
    config: TrainConfig,
    data: ShardedData,
    allocation: WorkerAllocation,
    num_images: int | None = None,
) -> None:
    """Refuses more workers than the smallest global batch has images.

    Args:
        config: the settings of the training.
        data: the data set that it reads.
        allocation: its workers.
        num_images: number of images of the training split that are used; None: all.

    Raises:
        ValueError: with both numbers.
    """
    num_images, optim = num_images or data.manifest.num_samples["train"], config.optim
    plan = plan_epoch(num_images, config.augment.copies, optim.global_batch, config.seed, 0)
    smallest = min(map(len, plan))
    if smallest < allocation.num_workers:
        raise ValueError(
            f"each worker needs an image of every batch: {allocation.num_workers} workers, but "
            f"{num_images} training images in batches of optim.global_batch = "
            f"{optim.global_batch} leave batches of {smallest}; raise it, or lower "
            "scaling.num_workers"
        )


def train_phase(training: Training, phase: PhaseName, start: Start | None = None) -> None:
    """Trains a phase as one Ray run and one child run, unless it is finished.

    Args:
        training: the training that it belongs to.
        phase: the phase to train.
        start: the model that it goes on from; None: that of the phase before, where it needs one.

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
    task = phase_task(training, phase, start)
    run = training.run
    child = run.tracker.start_or_resume_run(phase, run.run_id, tags={"phase": phase})
    with child.finishing():
        result = run_on_workers(
            train,
            task,
            name=phase,
            storage=record.storage,
            allocation=training.allocation,
            max_failures=training.max_failures,
            on_report=_Listener(phase, training, child),
        )
        if result.return_value is not None:
            raise PhaseFailedError(result.return_value)
        log_model(child, record.model(phase))
        record.finish(phase)


def phase_task(training: Training, phase: PhaseName, start: Start | None) -> TrainTask:
    """Returns the task by which a worker trains a phase of a training."""
    return TrainTask(
        phase=phase,
        config=training.config,
        data=training.data,
        start=start,
        loader_processes=training.allocation.loader_processes,
        num_images=training.chosen_images,
    )


class _Listener:
    """Logs the epochs that a phase reports, and prints a line for each report."""

    def __init__(self, phase: PhaseName, training: Training, run: Run) -> None:
        self.phase = phase
        self.num_epochs = PHASES[phase].num_epochs(training.config.optim)
        self.record = training.record
        self.run = run
        self.machine = ""

    def __call__(self, report: Report) -> None:
        if "failed" in report:
            print(f"{self.phase}: workers failed: {report['failed']}", flush=True)
            return
        if report["computed_on"] != self.machine:
            self.machine = report["computed_on"]
            self._note_machine()
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
                ("val/window_error_px", "windows off by px"),
                ("val/f1_overall", "val F1"),
            )
            if key in report
        )
        print(f"{self.phase}: epoch {epoch} of {self.num_epochs}: {shown}", flush=True)

    def _note_machine(self) -> None:
        """Prints and records the machine, on which the arithmetic may depend."""
        print(f"{self.phase}: on {self.machine}", flush=True)
        try:
            self.record.note_machine(self.phase, self.machine)
        except OSError as error:  # no reason to lose a training
            print(
                f"{self.phase}: could not be noted in {self.record.storage.url}: {error}",
                flush=True,
            )
        self.run.set_tags({"computed_on": "; ".join(self.record.computed_on(self.phase))})


def log_config(run: Run, config: TrainConfig) -> None:
    """Stores the settings in a run as a file that `--config` takes."""
    run.log_file(CONFIG_FILE, config_json(config))


def config_json(config: TrainConfig) -> bytes:
    """Returns the settings as the JSON of a file that `--config` takes."""
    return f"{json.dumps(to_dict(config), indent=1)}\n".encode()


def log_model(run: Run, model: bytes) -> None:
    """Stores the content of a model file in a run as its model."""
    run.log_file(MODEL_FILE, model, MODEL_ARTIFACT)
