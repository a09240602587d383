"""The part of scoring that runs in a Ray Train worker: it counts, and makes pictures of faces."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from cluster.storage.datasets import ShardedData
from cluster.storage.sharded_faces import read_faces, read_train_faces, unlimited_canvas
from cluster.workers.ray_context import RayContext
from stn_icnn.config import Precision
from stn_icnn.context import TrainContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.epochs import TrainingFaces
from stn_icnn.inference.parse_options import Framing
from stn_icnn.labels import LabelSet
from stn_icnn.networks.checkpoint import Checkpoint, load_checkpoint
from stn_icnn.networks.execution import describe_execution, prepare_model
from stn_icnn.networks.model import STNiCNN
from stn_icnn.reporting.small_faces import SmallFace, SmallFaces
from stn_icnn.scoring.confusion import (
    Labeller,
    count_confusions,
    parse_batch,
    parse_batch_coarsely,
)
from stn_icnn.scoring.examples import ScoredFace, label_examples
from stn_icnn.scoring.f1 import label_histogram, mean_label_map, resize_labels

MODEL = "STN-iCNN"
COARSE = "coarse network"
MEAN_MAP = "mean label map"
MEAN_MAP_PX = 128


@dataclass(frozen=True)
class ScoringTask:
    """The models to score on a split, with a coarse network alone and the mean label map."""

    models: Mapping[str, bytes]
    """Contents of the model files by the names of the systems. Contents, since a worker may not see
    the driver's disk. The first one is the model that the report is about."""
    data: ShardedData
    """The data set; where its split `train` is empty, no mean label map is scored."""
    split: str
    """The split that is scored."""
    precision: Precision | None = None
    """Arithmetic to score in; None: each model's own setting."""
    coarse: bytes | None = None
    """Content of the model file whose coarse network is scored; None: the first model's."""
    framing: Framing = "whole"
    """`whole`: each image is taken for a face. `found`: scenes are made of the faces, in which they
    are found; of the one model alone."""
    examples_per_kind: int = 0
    """Number of the best, of the median and of the worst faces that are returned with labels; where
    there are any, small pictures of all faces are returned too."""

    @property
    def dataset(self) -> str:
        """The name of what is scored."""
        return self.data.name if self.framing == "whole" else f"scenes of {self.data.name}"


@dataclass(frozen=True)
class ScoredSplit:
    """The counts of some systems on a split of M images, and the faces to show."""

    keys: tuple[str, ...]
    """The images' keys."""
    counts: Mapping[str, Tensor]
    """Confusion counts of each image, by system, int64 `[M, C, C]`."""
    label_set: LabelSet
    """The C classes, those of the first system."""
    examples: Mapping[str, Sequence[ScoredFace]]
    """The first system's `best`, `median` and `worst` faces, as they were scored."""
    faces: Sequence[SmallFace]
    """Small pictures of the images with the first system's labels; none where no examples are."""
    computed_on: str
    """The machine and the arithmetic of the first system, on the first rank."""
    seconds: float
    """The time that it all took on the first rank, seconds, but for the workers' start."""


def score_on_worker(task: ScoringTask) -> ScoredSplit:
    """Scores models on a split in a worker; each rank returns the counts of all images."""
    return score_task(RayContext(), task)


def score_task(context: TrainContext, task: ScoringTask) -> ScoredSplit:
    """Scores models on a split, as `score_on_worker` does, in any context."""
    quiet, began_s = context.rank > 0, time.perf_counter()

    def prepared(checkpoint: Checkpoint) -> STNiCNN:
        precision = task.precision or checkpoint.config.precision
        config = replace(checkpoint.config, precision=precision)
        return prepare_model(checkpoint.model, config, context.device)

    checkpoints = {name: load_checkpoint(model) for name, model in task.models.items()}
    main, first = next(iter(checkpoints.items()))
    models = {name: prepared(checkpoint) for name, checkpoint in checkpoints.items()}
    labellers: dict[str, Labeller] = {
        name: partial(parse_batch, model) for name, model in models.items()
    }
    coarse = first if task.coarse is None else load_checkpoint(task.coarse)
    labellers[COARSE] = partial(parse_batch_coarsely, prepared(coarse))
    config = unlimited_canvas(first.config)
    if task.data.shards_or_none("train"):
        train_faces = read_train_faces(task.data, config, context)
        mean_map = mean_map_of(train_faces, first.model.label_set, context)
        labellers[MEAN_MAP] = partial(_same_labels, mean_map)
    faces = read_faces(task.data, task.split, config, quiet=quiet)
    shown, small = task.examples_per_kind, SmallFaces(faces.label_set, main)
    counts = count_confusions(labellers, faces, context, small.add_batch if shown else None)
    examples = label_examples(models[main], faces, counts[main], context, shown)
    keys = tuple(face.key for face in faces.samples)
    return ScoredSplit(
        keys,
        counts,
        faces.label_set,
        examples,
        faces=small.gather(len(keys), context) if shown else [],
        computed_on=describe_execution(models[main], context.device),
        seconds=time.perf_counter() - began_s,
    )


@torch.inference_mode()
def mean_map_of(faces: TrainingFaces, label_set: LabelSet, context: TrainContext) -> Tensor:
    """Returns the most frequent class at each position of a split, `[128, 128]` uint8.

    Args:
        faces: the faces of the split.
        label_set: the model's label set, whose classes alone are predicted.
        context: the context whose ranks divide the faces among them.
    """
    num_classes = faces.label_set.num_classes
    shape = (num_classes, MEAN_MAP_PX, MEAN_MAP_PX)
    total = torch.zeros(shape, dtype=torch.int64, device=context.device)
    for labels in faces.label_maps(context.rank, context.world_size):
        total += label_histogram(labels.to(context.device), MEAN_MAP_PX, num_classes)
    return mean_label_map(context.sum_(total), label_set.model_classes)


def _same_labels(label_map: Tensor, batch: Batch) -> list[Tensor]:
    """Returns the same label map for each image of a batch, at the image's size."""
    return [resize_labels(label_map, height, width) for width, height in batch.host_sizes]
