"""The baseline's cropper (paper Figure 1a): windows around the centroids of the rough labels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stn_icnn.labels import MODEL_CLASSES, PARTS


def centroids(probs: Tensor) -> tuple[Tensor, Tensor]:
    """Where the parts lie in rough labellings.

    Convention: pixel centres at +0.5, (x, y) order, shares of the map's width and height.

    Args:
        probs: `[N, 9, H, W]` float, class probabilities in the order of `labels.MODEL_CLASSES`; the
            most probable class labels a pixel.

    Returns:
        `[N, 6, 2]` float32, the mean place of each part's pixels (of the mouth: of all three
        classes together, as its true centre is taken); 0.5 where it has none. `[N, 6]` bool,
        whether it has any.
    """
    labels = probs.argmax(dim=1)
    parts = torch.stack([_among(labels, part.classes) for part in PARTS], dim=1).float()
    down, across = parts.sum(dim=3), parts.sum(dim=2)
    num = across.sum(dim=-1)
    moments = [
        (line * (torch.arange(line.shape[-1], device=line.device) + 0.5)).sum(-1) / line.shape[-1]
        for line in (across, down)
    ]
    shares = torch.stack(moments, dim=-1) / num.clamp(min=1)[..., None]
    present = num > 0
    return torch.where(present[..., None], shares, shares.new_tensor(0.5)), present


def _among(labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Where channels of `labels.MODEL_CLASSES` stand for some canonical ids: bool, as `labels`."""
    channels = [MODEL_CLASSES.index(class_id) for class_id in classes]
    return torch.isin(labels, labels.new_tensor(channels))


class CentroidCropper(nn.Module):
    """Takes the localizer's place in the two-stage iCNN; it has nothing to learn, and no gradient.

    A part that the rough labels lack gets the image's centre, as in the authors' code.
    """

    def forward(self, probs: Tensor) -> Tensor:
        """As `Localizer.forward`: `[N, 9, px, px]` float to `[N, 6, 3]` float32; log factor 0."""
        shares, _ = centroids(probs)
        return torch.cat([shares, torch.zeros_like(shares[..., :1])], dim=-1)
