"""The croppers that studies compare: ways of finding the parts in the same coarse labels."""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.networks.centroid_cropper import at_set_size, centroids
from stn_icnn.networks.model import STNiCNN, located_probs

ICNN: Final = "iCNN"
"""The paper's name of the two-stage pipeline, whose cropper centres windows on centroids."""
AVERAGE_FACE: Final = "average face"
"""A control that does not look at the image: its windows lie where an average face has its parts.
On aligned faces it is good, and shows what a localizer is worth."""
SET_SIZE: Final = ", set size"
"""Follows the model's name where its centres are used with windows of the size that the settings
give, as the baseline has them."""


@dataclass(frozen=True)
class CropperLocations:
    """The locations that each cropper finds in the coarse labels of N faces."""

    coarse_logits: Tensor
    """`[N, L, coarse_px, coarse_px]` float32."""
    found: Tensor
    """`[N, P]` bool: whether a part has a pixel in the coarse labels."""
    by_cropper: dict[str, Tensor]
    """The locations by cropper, `[N, P, 3]` float32, as `STNiCNN.windows` takes them."""


def locate_by_cropper(model: STNiCNN, batch: Batch, system: str) -> CropperLocations:
    """Finds the parts with a model's localizer and with the other croppers.

    Args:
        model: a model with a localization network.
        batch: faces, on the model's device.
        system: the model's name.

    Returns:
        The locations of the centroid cropper, of the model, of the model with windows of the size
        that the settings give, and of `AVERAGE_FACE`.
    """
    coarse_logits = model.label_coarsely(batch)
    probs = located_probs(coarse_logits, model.label_set)
    centres, found = centroids(probs, model.label_set)
    locations = model.locate(coarse_logits)
    average = locations.new_tensor([part.centre for part in model.label_set.parts])
    by_cropper = {
        ICNN: at_set_size(centres),
        system: locations,
        system + SET_SIZE: at_set_size(locations[..., :2]),
        AVERAGE_FACE: at_set_size(average.expand_as(centres)),
    }
    return CropperLocations(coarse_logits, found, by_cropper)
