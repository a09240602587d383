"""Ways of finding the parts in the same rough labels, which experiments compare."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.networks.centroid_cropper import centroids
from stn_icnn.networks.model import STNiCNN

ICNN: Final = "iCNN"
"""The paper's name of the two-stage pipeline: its cropper centres windows on centroids."""
AVERAGE_FACE: Final = "average face"
"""A control that does not look at the image: its windows lie where an average face has its parts.
On aligned faces it is good, and shows what a localizer is worth."""
SET_SIZE: Final = ", set size"
"""Behind the model's name: its centres, with windows of the size that was set, as the baseline has
them."""


@dataclass(frozen=True)
class Locations:
    """What croppers make of the rough labels of N faces."""

    coarse_logits: Tensor
    """`[N, L, coarse_px, coarse_px]` float32."""
    found: Tensor
    """`[N, P]` bool: which parts have a pixel in the rough labels."""
    by_cropper: dict[str, Tensor]
    """`[N, P, 3]` float32 each, as `STNiCNN.windows` takes them."""


def locate(model: STNiCNN, batch: Batch, system: str) -> Locations:
    """Asks a model's localizer and the others.

    Args:
        model: with a localization network.
        batch: on the model's device.
        system: the model's name.

    Returns:
        The locations of the centroid cropper, of the model, of the model with windows of the size
        that is set, and of `AVERAGE_FACE`.
    """
    coarse_logits = model.label_coarsely(batch)
    shares, found = centroids(coarse_logits.softmax(dim=1), model.label_set)
    locations = model.locate(coarse_logits)
    average = locations.new_tensor([part.centre for part in model.label_set.parts])
    by_cropper = {
        ICNN: _at_set_size(shares),
        system: locations,
        system + SET_SIZE: _at_set_size(locations[..., :2]),
        AVERAGE_FACE: _at_set_size(average.expand_as(shares)),
    }
    return Locations(coarse_logits, found, by_cropper)


def _at_set_size(centres: Tensor) -> Tensor:
    """Centres, `[N, P, 2]`, with windows as large as is set, `[N, P, 3]`."""
    return torch.cat([centres, torch.zeros_like(centres[..., :1])], dim=-1)
