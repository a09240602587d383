"""Ways of finding the parts in the same rough labels, which experiments compare."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from cluster.paper.experiment import ICNN
from stn_icnn.data.batch import Batch
from stn_icnn.networks.centroid_cropper import centroids
from stn_icnn.networks.localizer import MEAN_CENTRES
from stn_icnn.networks.model import STNiCNN

BLIND: Final = "average face"
"""A cropper that looks at nothing: windows where an average face has its parts. On aligned faces it
is good, and what a localizer is worth shows beside it."""
SET_SIZE: Final = ", set size"
"""Behind the model's name: its centres, with windows of the size that was set, as the baseline has
them."""


@dataclass(frozen=True)
class Locations:
    """What croppers make of the rough labels of N faces."""

    coarse_logits: Tensor
    """`[N, 9, coarse_px, coarse_px]` float32."""
    found: Tensor
    """`[N, 6]` bool: which parts have a pixel in the rough labels."""
    by_cropper: dict[str, Tensor]
    """`[N, 6, 3]` float32 each, as `STNiCNN.windows` takes them."""


def locate(model: STNiCNN, batch: Batch, system: str) -> Locations:
    """Asks a model's localizer and the others.

    Args:
        model: with a localization network.
        batch: on the model's device.
        system: the model's name.

    Returns:
        Of the centroid cropper, the model, the model with windows of the set size, and `BLIND`.
    """
    coarse_logits = model.label_coarsely(batch)
    shares, found = centroids(coarse_logits.softmax(dim=1))
    locations = model.locate(coarse_logits)
    by_cropper = {
        ICNN: _at_set_size(shares),
        system: locations,
        system + SET_SIZE: _at_set_size(locations[..., :2]),
        BLIND: _at_set_size(locations.new_tensor(MEAN_CENTRES).expand_as(shares)),
    }
    return Locations(coarse_logits, found, by_cropper)


def _at_set_size(centres: Tensor) -> Tensor:
    """Centres, `[N, 6, 2]`, with windows as large as is set, `[N, 6, 3]`."""
    return torch.cat([centres, torch.zeros_like(centres[..., :1])], dim=-1)
