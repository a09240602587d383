"""Scoring a model on a split: every sample once, over however many ranks."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from stn_icnn.context import TrainContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.loading import load_batches
from stn_icnn.data.plan import plan_evaluation
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.networks.model import STNiCNN
from stn_icnn.networks.pasting import coarse_label_maps, label_maps
from stn_icnn.scoring.f1 import confusion

Labeller = Callable[[Batch], Sequence[Tensor]]
"""Labels a batch: one label map an image, `[H, W]` uint8 class ids, at the image's size."""

EVALUATION_BATCH = 8


def true_labels(batch: Batch, index: int) -> Tensor:
    """Returns the truth of an image of a batch, `[H, W]` uint8, without its canvas."""
    assert batch.labels is not None
    width, height = batch.host_sizes[index]
    return batch.labels[index, :height, :width]


def parse_batch(model: STNiCNN, batch: Batch) -> list[Tensor]:
    """Labels a batch by the whole model."""
    return label_maps(model(batch), batch.host_sizes)


def parse_batch_coarsely(model: STNiCNN, batch: Batch) -> list[Tensor]:
    """Labels a batch by the coarse network alone."""
    return coarse_label_maps(model.label_coarsely(batch), batch.host_sizes, model.label_set)


def evaluation_batches(
    faces: ShardedFaces, context: TrainContext, only: Sequence[int] | None = None
) -> Iterator[tuple[list[int], Batch]]:
    """Yields this rank's batches of a split, on its device, each with its faces' indices.

    Args:
        faces: the split.
        context: the ranks that share the split.
        only: indices of faces; batches that hold none of these are left out.
    """
    plan = plan_evaluation(len(faces), context.rank, context.world_size, EVALUATION_BATCH)
    if only is not None:
        plan = [batch for batch in plan if any(request.index in only for request in batch)]
    for requests, batch in zip(plan, load_batches(faces, plan), strict=True):
        yield [request.index for request in requests], batch.to(context.device)


@torch.inference_mode()
def count_confusions(
    labellers: Mapping[str, Labeller], faces: ShardedFaces, context: TrainContext
) -> dict[str, Tensor]:
    """Counts how some systems label each image of a split.

    Every rank scores its share and holds all counts in the end.

    Args:
        labellers: the systems, by name.
        faces: the split, not augmented.
        context: whose ranks share the work.

    Returns:
        By system, `[M, C, C]` int64 on the CPU, in the split's order, over the C classes of the
        faces' label set.
    """
    num_classes = faces.label_set.num_classes
    shape = (len(faces), num_classes, num_classes)
    counts = {name: torch.zeros(shape, dtype=torch.int64) for name in labellers}
    scored = torch.zeros(len(faces), dtype=torch.int64)
    for indices, batch in evaluation_batches(faces, context):
        predicted = {name: labeller(batch) for name, labeller in labellers.items()}
        for i, index in enumerate(indices):
            truth = true_labels(batch, i)
            for name, maps in predicted.items():
                counts[name][index] = confusion(truth, maps[i], num_classes).cpu()
            scored[index] += 1
    for name in counts:
        counts[name] = context.sum_(counts[name].to(context.device)).cpu()
    scored = context.sum_(scored.to(context.device)).cpu()
    assert bool((scored == 1).all()), "each sample must be scored exactly once"
    return counts
