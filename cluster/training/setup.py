"""The set-up of a training: its data, the checks of its settings, its workers, record and run."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cluster.config import TrainingJobConfig
from cluster.job_setup import JobEnvironment, allocate_job_workers
from cluster.run_notes import data_params
from cluster.storage.datasets import ShardedData, demo_data
from cluster.tracking.tracker import Run, run_tags
from cluster.tracking.tracking_uri import unavailable
from cluster.training.base_settings import BaseSettings, preset_in_words
from cluster.training.epoch_progress import EpochProgress
from cluster.training.run_record import RunRecord
from cluster.workers.allocation import WorkerAllocation
from sharding.manifest import HOW_TO_SHARD
from stn_icnn.checks import require
from stn_icnn.config import TrainConfig
from stn_icnn.data.faces import translation
from stn_icnn.data.plan import batch_sizes
from stn_icnn.storage import StorageLocation
from stn_icnn.training.phases import PHASES, PhaseName

SPLITS = ("train", "val", "test")
LEAST_IMAGES_A_WORKER = 4
"""The least images of a batch that a worker gets where the number of workers is `auto`: batch norm
needs about as many."""


@dataclass(frozen=True)
class Training:
    """A training that is set up: its phases share settings, data, storage, workers and run."""

    config: TrainConfig
    data: ShardedData
    record: RunRecord
    allocation: WorkerAllocation
    run: Run
    """The run whose children are the runs of its phases."""
    base: BaseSettings
    """The settings that its own are compared with."""
    chosen_images: int | None = None
    """The number of images of the training split that it is trained on; None: all."""
    progress: EpochProgress = field(default_factory=EpochProgress)
    """Shows the epochs of all trainings of the job."""

    def expect(self, phases: Iterable[PhaseName]) -> None:
        """Adds the unfinished phases to what the job's progress counts."""
        left = [phase for phase in phases if not self.record.has_finished(phase)]
        self.progress.expect(
            self.run.name,
            [(phase, self.num_epochs(phase)) for phase in left],
            self.config.validate_every_epochs,
            self.data.manifest.num_samples["val"] / self.num_images,
        )

    def expect_scoring(self, num_models: int = 1) -> None:
        """Adds the scoring of models on the test split to what the job's progress counts."""
        num_samples = self.data.manifest.num_samples
        share = num_models * num_samples["test"] / num_samples["val"]
        self.progress.expect_scoring(self.run.name, share)

    def num_epochs(self, phase: PhaseName) -> int:
        """Returns the number of epochs of a phase."""
        return PHASES[phase].num_epochs(self.config.optim)

    @property
    def num_images(self) -> int:
        """The number of images that it is trained on."""
        return self.chosen_images or self.data.manifest.num_samples["train"]


def open_training(
    settings: TrainingJobConfig,
    preset: str,
    environment: JobEnvironment,
    *,
    num_images: int | None = None,
    parent_sha256: str | None = None,
    base: BaseSettings | None = None,
    kind: str | None = None,
    tags: Mapping[str, str | None] | None = None,
) -> Training:
    """Opens a training's data, allocates its workers, and opens its record and its run.

    Args:
        settings: the job's settings.
        preset: the name of what they started from, for the record.
        environment: the job's name, storage and tracking.
        num_images: the number of images of the training split that the seed chooses; None: all.
        parent_sha256: the digest of the model file that it goes on from; None: it starts from
            scratch.
        base: the settings that its own are compared with; None: those of the preset.
        kind: the kind of job, where it is not the main one.
        tags: the tags of the run, besides those that every run has.

    Raises:
        ValueError: for settings, data or resources that can't be used.
        TrackingUnavailableError: where the tracking server is away.
    """
    data = open_data(settings, preset, environment.storage)
    config = settings.training
    require_canvas(config, data)
    require_labels(config, data)
    require_localizer(config)
    require_images(data, num_images)
    most_workers = max(1, config.optim.global_batch // LEAST_IMAGES_A_WORKER)
    allocation = allocate_job_workers(environment, data, settings.scaling, most_workers)
    require_batches(config, data, allocation, num_images)
    fingerprint = data.manifest.fingerprint
    record = RunRecord.open(
        environment.run_storage, config, fingerprint, num_images, parent_sha256, kind
    )
    run = environment.tracker.start_or_resume_run(
        environment.run_name,
        tags={**run_tags(fingerprint, preset), **(tags or {})},
        params={
            **asdict(config),
            "num_images": num_images or "all",
            **data_params(data, num_images),
        },
    )
    run.log_data(data, SPLITS)
    base = base or BaseSettings.of_preset(preset)
    return Training(config, data, record, allocation, run, base, num_images)


def child_training(parent: Training, name: str, config: TrainConfig) -> Training:
    """Opens a training with other settings within another's run and storage.

    Args:
        parent: the training whose data, images and workers it shares.
        name: the name of its folder, which the name of its run ends with.
        config: its settings.

    Raises:
        ValueError: naming the settings in which a training of this name was started otherwise.
        TrackingUnavailableError: where the tracking server is away: open it before training.
    """
    storage, fingerprint = parent.record.storage.child(name), parent.data.manifest.fingerprint
    record = RunRecord.open(storage, config, fingerprint, parent.chosen_images)
    run = start_child_run(parent, name, asdict(config))
    return replace(parent, config=config, record=record, run=run)


def start_child_run(
    parent: Training,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str | None] | None = None,
) -> Run:
    """Starts or resumes the run of a training within another's run, whose name it bears.

    Args:
        parent: the other training, whose data and images it shares.
        name: what the name of the run ends with.
        params: its params, besides those of the data.
        tags: its tags.

    Raises:
        TrackingUnavailableError: where the tracking server is away: the runs of the training's
            phases could not be put under it.
    """
    job = parent.run
    run = job.tracker.start_or_resume_run(
        f"{job.name}/{name}",
        job.run_id,
        tags=tags,
        params={**params, **data_params(parent.data, parent.chosen_images)},
        former_name=name,
    )
    if run.run_id is None:
        raise unavailable(job.tracker.uri, ConnectionError("it went away while the job began"))
    return run


def open_data(settings: TrainingJobConfig, preset: str, storage: StorageLocation) -> ShardedData:
    """Opens the data that a job trains on; draws the demo's where it is given none.

    Raises:
        ValueError: where there are none, or a split of them is empty.
    """
    if settings.data is not None:
        data = ShardedData.open(
            settings.data,
            verify_shards=settings.locations.verify_shards,
            reading=settings.reading,
        )
    elif preset == "demo":
        data = replace(demo_data(storage), reading=settings.reading)
    else:
        raise ValueError(
            f"{preset_in_words(preset)} needs --data: a folder or s3://BUCKET/PREFIX of shards, "
            f"made with: {HOW_TO_SHARD}"
        )
    for split in SPLITS:
        data.shards(split)
    numbers = ", ".join(f"{num} {split}" for split, num in data.manifest.num_samples.items())
    print(f"data {data.location.url}: {numbers}", flush=True)
    return data


def require_localizer(config: TrainConfig) -> None:
    """Refuses the baseline's cropper where the paper's model is trained.

    Raises:
        ValueError: saying where it belongs.
    """
    cropper = config.model.cropper
    wanted = "localizer (the phase baseline, of jobs/paper.py table, has the other one)"
    require(cropper == "localizer", "model.cropper", wanted, cropper)


def require_canvas(config: TrainConfig, data: ShardedData) -> None:
    """Refuses data whose images may be larger than the canvas, before workers refuse them.

    Raises:
        ValueError: with the limit.
    """
    side, canvas = data.manifest.scale.px, config.model.canvas_px
    wanted = f"at least {side}, the largest side of the images of {data.location.url}"
    require(side <= canvas, "model.canvas_px", wanted, canvas)


def require_labels(config: TrainConfig, data: ShardedData) -> None:
    """Refuses data that lack classes or parts of the label set, before workers refuse them.

    Raises:
        ValueError: naming what they lack.
    """
    translation(data.manifest.label_set, config.model.label_set)


def require_images(data: ShardedData, num_images: int | None) -> None:
    """Refuses to train on more images than there are.

    Raises:
        ValueError: with both numbers.
    """
    most = data.manifest.num_samples["train"]
    wanted = f"at most the {most} of the training split of {data.location.url}"
    require(num_images is None or num_images <= most, "num_images", wanted, num_images)
    copied = num_images is None or data.reading != "stream"
    require(copied, "reading", "copy or auto where num_images are chosen", data.reading)


def require_batches(
    config: TrainConfig,
    data: ShardedData,
    allocation: WorkerAllocation,
    num_images: int | None = None,
) -> None:
    """Refuses more workers than the smallest global batch has images.

    Args:
        config: the settings of the training.
        data: the data that it reads.
        allocation: its workers.
        num_images: the number of images of the training split that are used; None: all.

    Raises:
        ValueError: with both numbers.
    """
    num_images, optim = num_images or data.manifest.num_samples["train"], config.optim
    smallest = min(batch_sizes(num_images * config.augment.copies, optim.global_batch))
    if smallest < allocation.num_workers:
        raise ValueError(
            f"each worker needs an image of every batch: {allocation.num_workers} workers, but "
            f"{num_images} training images in batches of optim.global_batch = "
            f"{optim.global_batch} leave batches of {smallest}; raise it, or lower "
            "scaling.num_workers"
        )
