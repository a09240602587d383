"""What runs in a Ray Train worker: importable functions of a plain task."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cluster.storage.shard_cache import DatasetShard, fetch_shards, require_samples
from cluster.workers.ray_context import RayContext
from stn_icnn.config import PhaseName, Precision, TrainConfig
from stn_icnn.context import TrainContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import NUM_CLASSES
from stn_icnn.networks.checkpoint import Checkpoint, DataFacts, load_checkpoint
from stn_icnn.networks.execution import prepare_model
from stn_icnn.networks.model import STNiCNN
from stn_icnn.scoring.confusion import (
    Labeller,
    count_confusions,
    parse_batch,
    parse_batch_coarsely,
)
from stn_icnn.scoring.f1 import label_histogram, mean_label_map, resize_labels
from stn_icnn.training.initialization import initialize_model
from stn_icnn.training.loop import DivergedError, PhaseRun, Say, run_phase
from stn_icnn.training.phases import needs_labels, settings_of

MODEL = "STN-iCNN"
COARSE = "coarse network"
MEAN_MAP = "mean label map"
MEAN_MAP_PX = 128
UNLIMITED_PX = 2**16


@dataclass(frozen=True)
class Start:
    """What a phase goes on from."""

    model: bytes
    """A model file's content."""
    networks: tuple[str, ...]
    """Those of its networks that are taken up; the others begin afresh."""


@dataclass(frozen=True)
class TrainTask:
    """One phase, to be trained."""

    phase: PhaseName
    config: TrainConfig
    data: DataFacts
    train_shards: tuple[DatasetShard, ...]
    val_shards: tuple[DatasetShard, ...]
    start: Start | None
    """None: all networks begin afresh."""
    loader_processes: int
    num_images: int | None = None
    """Of `train_shards`, that the seed chooses; None: all."""


@dataclass(frozen=True)
class EvaluateTask:
    """Models, to be scored beside a coarse network and the mean label map."""

    models: Mapping[str, bytes]
    """Model files' contents, by the names of the systems: not every worker may see the driver's
    disk."""
    shards: tuple[DatasetShard, ...]
    """Of the split that is scored."""
    train_shards: tuple[DatasetShard, ...]
    """Of the split whose mean label map is the floor; none: no such floor."""
    precision: Precision | None = None
    """Arithmetic to score in; None: each model's own setting."""
    coarse: bytes | None = None
    """Content of the file of the model whose coarse network is scored; None: the first's."""


def read_faces(
    shards: tuple[DatasetShard, ...],
    config: TrainConfig,
    *,
    augmented: bool = False,
    with_labels: bool = True,
    quiet: bool = False,
) -> ShardedFaces:
    """The faces of some shards, as training or evaluation reads them, once they are on this node.

    Raises:
        ValueError: naming a shard that is not as its manifest says.
        OSError: shards can't be brought here.
    """
    paths = fetch_shards(shards, quiet=quiet)
    faces = ShardedFaces(
        paths,
        augment=config.augment if augmented else None,
        seed=config.seed,
        canvas_px=config.model.canvas_px,
        with_labels=with_labels,
    )
    require_samples(shards, paths, Counter(place.shard for place in faces.samples))
    return faces


def train(task: TrainTask) -> str | None:
    """`train_in` a Ray Train worker."""
    return train_in(RayContext(), task)


def train_in(context: TrainContext, task: TrainTask, say: Say = print) -> str | None:
    """Trains a phase.

    Args:
        context: where it is trained.
        task: the phase and its data.
        say: what lines of how far it is are given to.

    Returns:
        Why it can't be trained, where the loss diverged: raising would make Ray try again what
        must fail again.
    """
    run, model = open_phase(context, task, say)
    try:
        run_phase(run, model)
    except DivergedError as error:
        return str(error)
    return None


def open_phase(context: TrainContext, task: TrainTask, say: Say) -> tuple[PhaseRun, STNiCNN]:
    """A phase with its faces at hand, and the model that it starts from; see `train_in`."""
    quiet = context.rank > 0
    config = settings_of(task.phase, task.config)
    start = task.start
    if start is None:
        model = initialize_model(None, config)
    else:
        model = initialize_model(load_checkpoint(start.model), config, start.networks)
    read = partial(read_faces, config=config, with_labels=needs_labels(task.phase), quiet=quiet)
    train_faces = read(task.train_shards, augmented=True)
    if task.num_images is not None:
        train_faces.select(task.num_images, config.seed)
    run = PhaseRun(
        phase=task.phase,
        config=config,
        train_faces=train_faces,
        val_faces=read(task.val_shards),
        data=task.data,
        context=context,
        say=say,
        loader_processes=task.loader_processes,
    )
    return run, model


def unlimited_canvas(config: TrainConfig) -> TrainConfig:
    """A model's config without the canvas limit: that is for the memory of training."""
    return replace(config, model=replace(config.model, canvas_px=UNLIMITED_PX))


@torch.inference_mode()
def mean_map_of(faces: ShardedFaces, context: TrainContext) -> Tensor:
    """The most frequent class at each place of a split, `[128, 128]` uint8."""
    shape = (NUM_CLASSES, MEAN_MAP_PX, MEAN_MAP_PX)
    total = torch.zeros(shape, dtype=torch.int64, device=context.device)
    for index in range(context.rank, len(faces), context.world_size):
        total += label_histogram(faces.labels(index).to(context.device), MEAN_MAP_PX)
    return mean_label_map(context.sum_(total))


def evaluate(task: EvaluateTask) -> Mapping[str, NDArray[np.int64]]:
    """Scores models on a split.

    Returns:
        By system, confusion counts of each image in the split's order, `[M, 11, 11]`.
    """
    context = RayContext()
    quiet = context.rank > 0

    def prepared(checkpoint: Checkpoint) -> STNiCNN:
        precision = task.precision or checkpoint.config.precision
        config = replace(checkpoint.config, precision=precision)
        return prepare_model(checkpoint.model, config, context.device)

    checkpoints = {name: load_checkpoint(model) for name, model in task.models.items()}
    first = next(iter(checkpoints.values()))
    labellers: dict[str, Labeller] = {
        name: partial(parse_batch, prepared(checkpoint)) for name, checkpoint in checkpoints.items()
    }
    coarse = first if task.coarse is None else load_checkpoint(task.coarse)
    labellers[COARSE] = partial(parse_batch_coarsely, prepared(coarse))
    config = unlimited_canvas(first.config)
    if task.train_shards:
        train_faces = read_faces(task.train_shards, config, quiet=quiet)
        mean_map = mean_map_of(train_faces, context)
        labellers[MEAN_MAP] = partial(_labels_everywhere, mean_map)
    faces = read_faces(task.shards, config, quiet=quiet)
    counts = count_confusions(labellers, faces, context)
    return {name: value.numpy() for name, value in counts.items()}


def _labels_everywhere(label_map: Tensor, batch: Batch) -> list[Tensor]:
    """The same label map for each image of a batch, at its size."""
    return [resize_labels(label_map, height, width) for width, height in batch.host_sizes]
