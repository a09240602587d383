"""Pasting labelled patches into label maps (paper equations 5 and 6)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stn_icnn.geometry import paste
from stn_icnn.labels import LabelSet
from stn_icnn.networks.model import Parsing

Pasted = tuple[Tensor, slice, slice, tuple[int, ...]]
"""A part's probabilities, `[1 + classes, h, w]`, the rows and columns that they cover, and the ids
of its classes."""


def label_maps(
    parsing: Parsing, sizes: Sequence[tuple[int, int]], scales: Sequence[float] | None = None
) -> list[Tensor]:
    """Pastes the parts of each face into a label map.

    Softmax is taken per part. Outside its window a part is background, and the probability of
    background is the product of all parts' backgrounds. The most probable class labels a pixel.
    Pixels that lie in no window are background without being computed.

    Args:
        parsing: what the model made of N faces.
        sizes: (W, H) of each label map, px.
        scales: px of each label map per px of the parsed image, to label a photograph at its own
            size; 1 if None.

    Returns:
        N label maps, `[H, W]` uint8, ids of the label set's classes.
    """
    probs = {name: logits.detach().softmax(dim=2) for name, logits in parsing.part_logits.items()}
    label_set = parsing.label_set
    windows = parsing.windows.tolist()  # at once: each would be a wait for a GPU
    maps = []
    for i, (size, scale) in enumerate(zip(sizes, scales or [1.0] * len(sizes), strict=True)):
        scaled = [[scale * value for value in window] for window in windows[i]]
        pasted = [
            (*paste(patch, scaled[part], *size), label_set.part_classes[part])
            for name, of_batch in probs.items()
            for part, patch in zip(label_set.parts_of_network[name], of_batch[i], strict=True)
        ]
        maps.append(_label_face(pasted, size))
    return maps


def _label_face(pasted: Sequence[Pasted], size: tuple[int, int]) -> Tensor:
    """Labels each pixel with the most probable class, the lower id where two are alike."""
    whole = torch.zeros(size[::-1], dtype=torch.uint8, device=pasted[0][0].device)
    pasted = [part for part in pasted if part[0].numel()]
    if not pasted:
        return whole
    top, bottom = min(p[1].start for p in pasted), max(p[1].stop for p in pasted)
    left, right = min(p[2].start for p in pasted), max(p[2].stop for p in pasted)
    labels = whole[top:bottom, left:right]
    background = torch.ones(labels.shape, device=whole.device)
    best = torch.zeros_like(background)
    for probs, rows, columns, classes in pasted:
        here = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        background[here] *= probs[0]
        for class_id, prob in zip(classes, probs[1:], strict=True):
            labels[here].masked_fill_(prob > best[here], class_id)
            torch.maximum(best[here], prob, out=best[here])
    labels.masked_fill_(background >= best, 0)
    return whole


def coarse_label_maps(
    coarse_logits: Tensor, sizes: Sequence[tuple[int, int]], label_set: LabelSet
) -> list[Tensor]:
    """Labels faces by the coarse network alone.

    Args:
        coarse_logits: `[N, L, coarse_px, coarse_px]` float32.
        sizes: (W, H) of each label map, px.
        label_set: whose L model classes the logits are of.

    Returns:
        N label maps, `[H, W]` uint8, ids of the label set's classes.
    """
    probs = coarse_logits.detach().softmax(dim=1)
    maps = []
    for face, size in zip(probs, sizes, strict=True):
        enlarged = F.interpolate(face[None], size=size[::-1], mode="bilinear", align_corners=False)
        best = enlarged[0, 0].clone()
        labels = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
        for class_id, prob in zip(label_set.model_classes[1:], enlarged[0, 1:], strict=True):
            labels.masked_fill_(prob > best, class_id)  # argmax, which is slow across channels
            torch.maximum(best, prob, out=best)
        maps.append(labels)
    return maps
