"""Scores models on a split, each sample once, over however many ranks."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from stn_icnn.context import LocalContext, TrainContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.loading import load_batches
from stn_icnn.data.plan import plan_evaluation
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.networks.model import STNiCNN
from stn_icnn.networks.pasting import coarse_label_maps, label_maps
from stn_icnn.progress import progress
from stn_icnn.scoring.f1 import confusion

Labeller = Callable[[Batch], Sequence[Tensor]]
"""A function that labels a batch: it returns a label map, `[H, W]` uint8 class ids, for each image,
at the image's size."""

OnLabelled = Callable[[Sequence[int], Batch, Mapping[str, Sequence[Tensor]]], None]
"""A function that is given a batch while it is scored: its faces' indices, the batch, and the label
map of each image by system."""

EVALUATION_BATCH = 8
"""Faces that a rank labels at a time."""


def true_labels(batch: Batch, index: int) -> Tensor:
    """Returns the true labels of an image of a batch, `[H, W]` uint8, without its canvas."""
    assert batch.labels is not None
    width, height = batch.host_sizes[index]
    return batch.labels[index, :height, :width]


def count_batch(predicted: Sequence[Tensor], batch: Batch, num_classes: int) -> Tensor:
    """Counts how a batch is labelled, int64 `[N, C, C]`, by `confusion` of each image."""
    images = enumerate(predicted)
    counts = [confusion(true_labels(batch, i), labels, num_classes) for i, labels in images]
    return torch.stack(counts)


def parse_batch(model: STNiCNN, batch: Batch) -> list[Tensor]:
    """Labels a batch with the whole model: `[H, W]` uint8 class ids for each image."""
    return label_maps(model(batch), batch.host_sizes)


def parse_batch_coarsely(model: STNiCNN, batch: Batch) -> list[Tensor]:
    """Labels a batch with the coarse network alone: `[H, W]` uint8 class ids for each image."""
    return coarse_label_maps(model.label_coarsely(batch), batch.host_sizes, model.label_set)


def evaluation_batches(
    faces: ShardedFaces, context: TrainContext, only: Sequence[int] | None = None
) -> Iterator[tuple[list[int], Batch]]:
    """Yields this rank's batches of a split, on its device, each with its faces' indices.

    Args:
        faces: the faces of the split.
        context: the context whose ranks divide the split among them.
        only: indices of faces; batches that hold none of these are left out. None: all batches.
    """
    plan = plan_evaluation(len(faces), context.rank, context.world_size, EVALUATION_BATCH)
    if only is not None:
        plan = [batch for batch in plan if any(request.index in only for request in batch)]
    for requests, batch in zip(plan, load_batches(faces, plan), strict=True):
        yield [request.index for request in requests], batch.to(context.device)


def batches_with_progress(faces: ShardedFaces) -> Iterator[Batch]:
    """Yields the batches of a split in order, on the CPU, and shows how many faces are done."""
    batches = (batch for _, batch in evaluation_batches(faces, LocalContext()))
    return progress(batches, len(faces), "face", len)


@torch.inference_mode()
def count_confusions(
    labellers: Mapping[str, Labeller],
    faces: ShardedFaces,
    context: TrainContext,
    on_labelled: OnLabelled | None = None,
) -> dict[str, Tensor]:
    """Counts how some systems label each image of a split.

    Every rank scores its part of the split, and has all counts in the end.

    Args:
        labellers: the systems, by name.
        faces: the M faces of the split, not augmented.
        context: the context whose ranks divide the split among them.
        on_labelled: called with each batch that this rank scores.

    Returns:
        Confusion counts by system, int64 `[M, C, C]` on the CPU, rows truth, columns prediction, in
        the split's order; C is the number of classes of the faces' label set.
    """
    num_classes = faces.label_set.num_classes
    shape = (len(faces), num_classes, num_classes)
    counts = {name: torch.zeros(shape, dtype=torch.int64) for name in labellers}
    scored = torch.zeros(len(faces), dtype=torch.int64)
    for indices, batch in evaluation_batches(faces, context):
        labelled = {name: labeller(batch) for name, labeller in labellers.items()}
        for name, maps in labelled.items():
            counts[name][indices] = count_batch(maps, batch, num_classes).cpu()
        if on_labelled is not None:
            on_labelled(indices, batch, labelled)
        scored[indices] += 1
    for name in counts:
        counts[name] = context.sum_(counts[name].to(context.device)).cpu()
    scored = context.sum_(scored.to(context.device)).cpu()
    assert bool((scored == 1).all()), "each sample must be scored exactly once"
    return counts
