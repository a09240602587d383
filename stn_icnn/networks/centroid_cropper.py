"""The baseline's cropper (paper Figure 1a): windows around the centroids of the rough labels."""

import torch
from torch import Tensor, nn

from stn_icnn.labels import LabelSet


def centroids(probs: Tensor, label_set: LabelSet) -> tuple[Tensor, Tensor]:
    """Finds the parts in rough labellings.

    Convention: pixel centres at +0.5, (x, y) order, shares of the map's width and height.

    Args:
        probs: `[N, K, H, W]` float, probabilities of the label set's K located classes; the most
            probable class labels a pixel.
        label_set: the classes and the P parts.

    Returns:
        `[N, P, 2]` float32, the mean place of each part's pixels, those of all its classes
        together, as true centres are taken; 0.5 for a part without pixels. `[N, P]` bool, whether
        the part has any.
    """
    labels = probs.argmax(dim=1)
    channels = label_set.located_classes
    found = [
        torch.isin(labels, labels.new_tensor([channels.index(class_id) for class_id in classes]))
        for classes in label_set.part_classes
    ]
    parts = torch.stack(found, dim=1).float()
    down, across = parts.sum(dim=3), parts.sum(dim=2)
    num = across.sum(dim=-1)
    moments = [
        (line * (torch.arange(line.shape[-1], device=line.device) + 0.5)).sum(-1) / line.shape[-1]
        for line in (across, down)
    ]
    shares = torch.stack(moments, dim=-1) / num.clamp(min=1)[..., None]
    present = num > 0
    return torch.where(present[..., None], shares, shares.new_tensor(0.5)), present


def at_set_size(centres: Tensor) -> Tensor:
    """Adds a log factor of 0 on the window's size to centres, `[N, P, 2]` to `[N, P, 3]`."""
    return torch.cat([centres, torch.zeros_like(centres[..., :1])], dim=-1)


class CentroidCropper(nn.Module):
    """Takes the localizer's place in the two-stage iCNN; it has nothing to learn, and no gradient.

    A part that the rough labels lack gets the image's centre, as in the authors' code.

    Args:
        label_set: the classes that it sees and the parts that it finds.
    """

    def __init__(self, label_set: LabelSet) -> None:
        super().__init__()
        self.label_set = label_set

    def forward(self, probs: Tensor) -> Tensor:
        """Locates the parts as `Localizer.forward` does; the log factors are 0."""
        shares, _ = centroids(probs, self.label_set)
        return at_set_size(shares)
