"""The best, the median and the worst faces of a split, with the labels that were scored."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stn_icnn.context import TrainContext
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import LabelSet
from stn_icnn.scoring.confusion import Labeller, evaluation_batches, true_labels
from stn_icnn.scoring.f1 import f1_tensors


class ScoredFace(NamedTuple):
    """A face and its labels.

    Attributes:
        key: the image's key.
        image: uint8 `[H, W, 3]`, RGB.
        truth: uint8 `[H, W]`, class ids.
        predicted: uint8 `[H, W]`, class ids.
    """

    key: str
    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.uint8]
    predicted: npt.NDArray[np.uint8]


def pick_examples(
    counts: Tensor, keys: Sequence[str], label_set: LabelSet, num: int = 4
) -> dict[str, list[int]]:
    """Chooses the images to show by their own overall F1.

    Args:
        counts: int64 `[M, C, C]` of one system, rows truth, columns prediction.
        keys: keys of the M images, which settle ties.
        label_set: the C classes.
        num: images of each kind; there are fewer where M is smaller.

    Returns:
        Indices of the `best` images, best first, the `median` ones, and the `worst`, worst first.
        Images whose overall F1 is undefined are in none of them.
    """
    overall = f1_tensors(counts, label_set)["overall"].tolist()
    # NaN, undefined, is the one number unequal to itself.
    defined = [i for i, f1 in enumerate(overall) if f1 == f1]
    ranked = sorted(defined, key=lambda i: (-overall[i], keys[i]))
    start = max(0, (len(ranked) - num) // 2)
    return {
        "best": ranked[:num],
        "median": ranked[start : start + num],
        "worst": ranked[::-1][:num],
    }


@torch.inference_mode()
def label_examples(
    labeller: Labeller, faces: ShardedFaces, counts: Tensor, context: TrainContext, num: int
) -> dict[str, list[ScoredFace]]:
    """Labels the best, the median and the worst faces again, just as they were scored.

    Each is labelled by the rank that scored it and in the same batch, on whose other faces the last
    bits of a result may depend: so its labels are those that its counts are of.

    Args:
        labeller: the system that `counts` are of.
        faces: the split, not augmented.
        counts: what `count_confusions` returned for the system, int64 `[M, C, C]`.
        context: the context that the split was scored in.
        num: faces of each kind.

    Returns:
        By kind, as `pick_examples` orders them, the faces, on every rank.
    """
    keys = [place.key for place in faces.samples]
    picked = pick_examples(counts, keys, faces.label_set, num)
    indices = sorted(set(chain.from_iterable(picked.values())))
    own = {}
    for places, batch in evaluation_batches(faces, context, indices):
        predicted = labeller(batch)
        for i in (i for i, index in enumerate(places) if index in indices):
            width, height = batch.host_sizes[i]
            layers = (true_labels(batch, i)[None], predicted[i][None])
            own[places[i]] = torch.cat([batch.images[i, :, :height, :width], *layers])
    gathered = _gather(own, indices, context)
    shown = {
        index: ScoredFace(faces.samples[index].key, layers[..., :3], layers[..., 3], layers[..., 4])
        for index, layers in gathered.items()
    }
    return {kind: [shown[index] for index in of_kind] for kind, of_kind in picked.items()}


def _gather(
    own: Mapping[int, Tensor], indices: Sequence[int], context: TrainContext
) -> dict[int, npt.NDArray[np.uint8]]:
    """Brings every rank what some rank has of each index: `[5, H, W]` uint8 to `[H, W, 5]`.

    A sum over ranks does it, as one of them has the values and the others have zeros.
    """
    sizes = torch.zeros(len(indices), 2, dtype=torch.int64, device=context.device)
    for row, index in enumerate(indices):
        if index in own:
            sizes[row] = torch.tensor(own[index].shape[1:])
    gathered = {}
    for index, (height, width) in zip(indices, context.sum_(sizes).tolist(), strict=True):
        layers = own.get(index)
        if layers is None:
            layers = torch.zeros(5, height, width, dtype=torch.uint8, device=context.device)
        whole = context.sum_(layers.contiguous())
        gathered[index] = whole.permute(1, 2, 0).contiguous().cpu().numpy()
    return gathered
