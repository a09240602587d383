"""The interlinked CNN (paper section 2.2 and Figure 2): used for coarse and for fine labelling.

Four rows of convolutions see the image at full, half, quarter and eighth size. Interlinked layers
pass information between neighbouring rows; at the end the rows are integrated, coarse to fine, into
one map of the input's size.
"""

from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from stn_icnn.networks.channels_last import concatenate

ROW_CHANNELS = (8, 16, 24, 32)
"""Channels of the rows, from full size to an eighth."""
NUM_INTERLINKED_LAYERS = 3


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Returns a convolution that keeps the map's size, a batch norm and a ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def downsample(x: Tensor) -> Tensor:
    """Pools the maxima, to half the size, rounded up (Figure 2, blue arrows)."""
    return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def upsample_to(x: Tensor, like: Tensor) -> Tensor:
    """Enlarges to the size of `like` by nearest neighbours (Figure 2, orange arrows)."""
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


class InterlinkedLayer(nn.Module):
    """A layer in which each row convolves twice what it and its neighbours hold.

    The neighbours' maps are brought to the row's own size.

    Args:
        kernel_size: side of the convolutions' kernels, odd.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.rows = nn.ModuleList()
        for i, own in enumerate(ROW_CHANNELS):
            seen = sum(ROW_CHANNELS[max(0, i - 1) : i + 2])
            convolutions = (conv_bn_relu(c, own, kernel_size) for c in (seen, own))
            self.rows.append(nn.Sequential(*convolutions))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Returns new maps of the rows, `[N, C_i, ceil(H / 2^i), ceil(W / 2^i)]` as those given."""
        out = []
        for i, (row, own) in enumerate(zip(self.rows, features, strict=True)):
            seen = [own]
            if i > 0:
                seen.insert(0, downsample(features[i - 1]))
            if i + 1 < len(features):
                seen.append(upsample_to(features[i + 1], own))
            out.append(row(concatenate(seen)))
        return out


class ICNN(nn.Module):
    """An interlinked CNN, which labels each pixel of an image or of a patch.

    Args:
        num_classes: number of classes (L in Figure 2).
        kernel_size: side of all kernels, odd; 3 in the paper, 5 in its authors' code.
        in_channels: number of channels of the images, 3 of RGB.
    """

    def __init__(self, num_classes: int, kernel_size: int = 3, in_channels: int = 3) -> None:
        super().__init__()
        self.stems = nn.ModuleList(conv_bn_relu(in_channels, c, kernel_size) for c in ROW_CHANNELS)
        self.interlinked = nn.ModuleList(
            InterlinkedLayer(kernel_size) for _ in range(NUM_INTERLINKED_LAYERS)
        )
        self.integrate = nn.ModuleList(
            conv_bn_relu(fine + below, fine, kernel_size) for fine, below in pairwise(ROW_CHANNELS)
        )
        head = 2 * num_classes + 8
        self.head = nn.Sequential(
            conv_bn_relu(ROW_CHANNELS[0], head, kernel_size),
            nn.Conv2d(head, num_classes, kernel_size, padding=kernel_size // 2),
            nn.Conv2d(num_classes, num_classes, kernel_size, padding=kernel_size // 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Labels images.

        Args:
            x: `[N, in_channels, H, W]` float in [0, 1], of any size from 8 px.

        Returns:
            Logits of the classes, `[N, num_classes, H, W]`.
        """
        scaled = [x]
        for _ in range(len(self.stems) - 1):
            scaled.append(downsample(scaled[-1]))
        rows = [stem(s) for stem, s in zip(self.stems, scaled, strict=True)]
        for layer in self.interlinked:
            rows = layer(rows)
        out = rows[-1]
        for integrate, row in zip(reversed(self.integrate), reversed(rows[:-1]), strict=True):
            out = integrate(concatenate([row, upsample_to(out, row)]))
        return cast(Tensor, self.head(out))
