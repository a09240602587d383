"""The best, median and worst faces of a split, with labels and windows as scored."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stn_icnn.context import TrainContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import LabelSet
from stn_icnn.networks.model import STNiCNN
from stn_icnn.networks.pasting import label_maps
from stn_icnn.scoring.confusion import evaluation_batches, true_labels
from stn_icnn.scoring.f1 import f1_rows, f1_tensors, weakest_row


class ScoredFace(NamedTuple):
    """A face with its true and its predicted labels, and the windows that it was labelled in.

    Attributes:
        key: the image's key.
        image: uint8 `[H, W, 3]`, RGB.
        truth: uint8 `[H, W]`, class ids.
        predicted: uint8 `[H, W]`, class ids.
        windows: float32 `[P, 4]`, centre (x, y), width and height of each part's window, px.
    """

    key: str
    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.uint8]
    predicted: npt.NDArray[np.uint8]
    windows: npt.NDArray[np.float32]


def pick_examples(
    counts: Tensor, keys: Sequence[str], label_set: LabelSet, num: int = 4
) -> dict[str, list[int]]:
    """Chooses the images to show: by their own overall F1, and by that of the weakest class.

    Args:
        counts: one system's confusion counts, int64 `[M, C, C]`, rows truth, columns prediction.
        keys: keys of the M images, whose order settles ties.
        label_set: the C classes.
        num: number of images of each kind; there are fewer where M is smaller.

    Returns:
        Indices of the `best` images, best first, the `median` ones, the `worst`, worst first, and
        as `weakest` those whose truth has the class that is weakest over all images, and whose own
        F1 of it is least. Images whose F1 is undefined are in none of them.
    """
    by_row = f1_tensors(counts, label_set)

    def ranking(row: str, images: Iterable[int]) -> list[int]:
        f1 = by_row[row].tolist()
        return sorted((i for i in images if not math.isnan(f1[i])), key=lambda i: (-f1[i], keys[i]))

    ranked = ranking("overall", range(len(keys)))
    start = max(0, (len(ranked) - num) // 2)
    row = weakest_row(f1_rows(counts.sum(dim=0), label_set), label_set)
    of_weakest = ranking(row, faces_with(counts, label_set.f1_rows[row])) if row else []
    return {
        "best": ranked[:num],
        "median": ranked[start : start + num],
        "worst": ranked[::-1][:num],
        "weakest": of_weakest[::-1][:num],
    }


def faces_with(counts: Tensor, classes: Sequence[int]) -> list[int]:
    """Returns the indices of the images whose truth has one of some classes.

    Args:
        counts: int64 `[M, C, C]`, rows truth, columns prediction.
        classes: their ids.
    """
    return counts[:, list(classes)].sum(dim=(1, 2)).nonzero().flatten().tolist()


ExampleLabeller = Callable[[Batch], Iterable[ScoredFace]]
"""Labels the faces of a batch; the same batch gets the same labels."""


def label_examples(
    model: STNiCNN, faces: ShardedFaces, counts: Tensor, context: TrainContext, num: int
) -> dict[str, list[ScoredFace]]:
    """Labels the faces that `pick_examples` chooses again, with a model; see `gather_examples`."""
    return gather_examples(partial(_label_batch, model), faces, counts, context, num)


@torch.inference_mode()
def gather_examples(
    label: ExampleLabeller,
    faces: ShardedFaces,
    counts: Tensor,
    context: TrainContext,
    num: int,
    keys: Sequence[str] | None = None,
) -> dict[str, list[ScoredFace]]:
    """Labels the faces that `pick_examples` chooses again, just as they were scored.

    The last bits of a result may depend on the other faces of a batch. So the rank that scored a
    face labels it again in the same batch, and its labels are those that were counted.

    Args:
        label: labels a batch as it was scored.
        faces: the M faces of the split, not augmented.
        counts: the counts, int64 `[M, C, C]`, as `count_confusions` returned them.
        context: the context that the split was scored in.
        num: number of faces of each kind.
        keys: the keys of what was scored; None: those of the faces.

    Returns:
        The faces by kind, in the order of `pick_examples`, on every rank.
    """
    keys = [sample.key for sample in faces.samples] if keys is None else keys
    picked = pick_examples(counts, keys, faces.label_set, num)
    indices = sorted(set(chain.from_iterable(picked.values())))
    of_rank = {}
    windows = torch.zeros(len(indices), faces.label_set.num_parts, 4, device=context.device)
    for batch_indices, batch in evaluation_batches(faces, context, indices):
        for index, face in zip(batch_indices, label(batch), strict=True):
            if index in indices:
                layers = np.dstack([face.image, face.truth, face.predicted])
                of_rank[index] = torch.from_numpy(layers).permute(2, 0, 1).to(context.device)
                windows[indices.index(index)] = torch.from_numpy(face.windows)
    layers_of = _gather(of_rank, indices, context)
    examples = {
        index: ScoredFace(keys[index], layers[..., :3], layers[..., 3], layers[..., 4], of_face)
        for (index, layers), of_face in zip(
            layers_of.items(), context.sum_(windows).cpu().numpy(), strict=True
        )
    }
    return {kind: [examples[index] for index in of_kind] for kind, of_kind in picked.items()}


def _label_batch(model: STNiCNN, batch: Batch) -> Iterator[ScoredFace]:
    """Labels a batch, each face of which is the whole of its image."""
    parsing = model(batch)
    predicted = label_maps(parsing, batch.host_sizes)
    for i, (width, height) in enumerate(batch.host_sizes):
        image = batch.images[i, :, :height, :width].permute(1, 2, 0)
        arrays = (image, true_labels(batch, i), predicted[i], parsing.windows[i])
        yield ScoredFace(batch.keys[i], *(array.cpu().numpy() for array in arrays))


def _gather(
    of_rank: Mapping[int, Tensor], indices: Sequence[int], context: TrainContext
) -> dict[int, npt.NDArray[np.uint8]]:
    """Returns on every rank what one rank has of each index: `[H, W, 5]` uint8 of `[5, H, W]`.

    It sums over ranks, of which one has the values and the others have zeros.
    """
    sizes = torch.zeros(len(indices), 2, dtype=torch.int64, device=context.device)
    for row, index in enumerate(indices):
        if index in of_rank:
            sizes[row] = torch.tensor(of_rank[index].shape[1:])
    gathered = {}
    for index, (height, width) in zip(indices, context.sum_(sizes).tolist(), strict=True):
        layers = of_rank.get(index)
        if layers is None:
            layers = torch.zeros(5, height, width, dtype=torch.uint8, device=context.device)
        layers = context.sum_(layers.contiguous())
        gathered[index] = layers.permute(1, 2, 0).contiguous().cpu().numpy()
    return gathered
