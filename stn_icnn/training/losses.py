"""The phases' losses, each a sum over the samples of a batch.

Sums, because ranks may hold unequal shares of a global batch: the training step divides by the
global batch once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stn_icnn.config import LossConfig
from stn_icnn.data.batch import Batch
from stn_icnn.geometry import crop_labels, theta_from_windows, whole_image
from stn_icnn.labels import LabelSet
from stn_icnn.networks.centroid_cropper import at_set_size
from stn_icnn.networks.model import Parsing


def class_channels(classes: tuple[int, ...], labels: Tensor, num_classes: int) -> Tensor:
    """Maps class ids to channels, int64: the place in `classes` plus 1, and 0 for all others."""
    table = torch.zeros(num_classes, dtype=torch.long)
    table[list(classes)] = torch.arange(1, len(classes) + 1)
    return table.to(labels.device)[labels.long()]


def _labels_in(batch: Batch, theta: Tensor, px: int) -> Tensor:
    """Cuts the truth in the windows of the frame that the model sees, `[N, P, px, px]` uint8."""
    assert batch.labels is not None
    labels = crop_labels(batch.labels, theta, px)
    return labels if batch.augmentation is None else batch.augmentation.relabel(labels)


def coarse_loss(coarse_logits: Tensor, batch: Batch, label_set: LabelSet) -> Tensor:
    """Computes the cross-entropy against the resized label map (equation 11), mean over pixels.

    Args:
        coarse_logits: `[N, L, px, px]` float32.
        batch: faces with label maps.
        label_set: whose L model classes the logits are of.

    Returns:
        Scalar float32, summed over samples.
    """
    theta = theta_from_windows(whole_image(batch.sizes), batch.canvas_size, batch.affine)
    labels = _labels_in(batch, theta, coarse_logits.shape[-1])[:, 0]
    target = class_channels(label_set.model_classes[1:], labels, label_set.num_classes)
    return F.cross_entropy(coarse_logits, target) * len(batch)


def localizer_loss(locations: Tensor, batch: Batch) -> Tensor:
    """Computes the smooth L1 between theta and theta-hat (equations 12 to 14).

    It is taken of the localizer's own outputs: a centre counts in the units of theta (twice its
    share of the image), the log factor against 0. Parts that are not there count nothing.

    Args:
        locations: `[N, P, 3]` float32.
        batch: faces with the parts' centres.

    Returns:
        Scalar float32, summed over samples, mean over parts and outputs.
    """
    centres, present = batch.target_centres()
    target = at_set_size(centres)
    units = locations.new_tensor([2.0, 2.0, 1.0])
    errors = F.smooth_l1_loss(locations * units, target * units, reduction="none")
    return (errors * present[..., None]).sum() / (errors.shape[-2] * errors.shape[-1])


def fine_loss(parsing: Parsing, batch: Batch) -> Tensor:
    """Computes the parts' cross-entropy against the truth cut by the same theta (equation 10).

    Returns:
        Scalar float32, summed over samples, mean over the parts and their pixels.
    """
    label_set = parsing.label_set
    total = parsing.windows.new_zeros(())
    for name, logits in parsing.part_logits.items():
        labels = _labels_in(batch, parsing.theta[name], logits.shape[-1])
        for place, part in enumerate(label_set.parts_of_network[name]):
            classes = label_set.part_classes[part]
            target = class_channels(classes, labels[:, place], label_set.num_classes)
            total = total + F.cross_entropy(logits[:, place], target) * len(batch)
    return total / label_set.num_parts


def end_to_end_loss(parsing: Parsing, batch: Batch, weights: LossConfig) -> Tensor:
    """Adds the other networks' losses to the fine networks', as far as the settings weigh them.

    Returns:
        Scalar float32, summed over samples.
    """
    loss = fine_loss(parsing, batch)
    if weights.coarse_weight:
        coarse = coarse_loss(parsing.coarse_logits, batch, parsing.label_set)
        loss = loss + weights.coarse_weight * coarse
    if weights.localizer_weight:
        loss = loss + weights.localizer_weight * localizer_loss(parsing.locations, batch)
    return loss
