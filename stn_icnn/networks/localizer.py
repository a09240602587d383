"""The localization network (paper section 2.3 and Figure 3): from rough labels to windows."""

import torch
from torch import Tensor, nn

from stn_icnn.labels import LabelSet
from stn_icnn.networks.icnn import conv_bn_relu

CHANNELS = (16, 32, 48, 64)

HEAD_STD = 1e-4
"""Standard deviation of the head's first weights: small, so that an untrained model cuts where an
average face has its parts; not 0, so that a gradient reaches the convolutions from the first step.
"""


class Localizer(nn.Module):
    """Eight 3 x 3 convolutions, average pooling after every two, and a linear head.

    The paper prints a ReLU on theta, which could not give a negative translation; here theta is
    linear. The network cannot see the image's size, so its outputs are shares of it, and theta is
    computed from them.

    Args:
        label_set: the classes that it sees and the parts that it finds.
        coarse_px: side of the coarse label probabilities.
        learn_scale: whether it predicts a log factor on the windows' size; 0 otherwise.
    """

    def __init__(self, label_set: LabelSet, coarse_px: int, learn_scale: bool = True) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        in_channels, px = len(label_set.located_classes), coarse_px
        for channels in CHANNELS:
            blocks += [conv_bn_relu(in_channels, channels, 3), conv_bn_relu(channels, channels, 3)]
            blocks.append(nn.AvgPool2d(kernel_size=3, stride=2))
            in_channels, px = channels, (px - 3) // 2 + 1  # the side after the pooling
        self.features = nn.Sequential(*blocks, nn.Flatten())
        self.num_parts = label_set.num_parts
        self.learn_scale = learn_scale
        num_outputs = 3 if learn_scale else 2
        self.head = nn.Linear(in_channels * px * px, self.num_parts * num_outputs)
        nn.init.normal_(self.head.weight, std=HEAD_STD)
        with torch.no_grad():
            bias = self.head.bias.view(self.num_parts, num_outputs)
            bias.zero_()
            bias[:, :2] = torch.tensor([part.centre for part in label_set.parts])

    def forward(self, probs: Tensor) -> Tensor:
        """Locates the parts.

        Args:
            probs: `[N, K, coarse_px, coarse_px]` float, the coarse network's probabilities of the
                label set's K located classes.

        Returns:
            `[N, P, 3]` float32, for each part of the label set the centre's x and y as a share of
            the image's width and height, and the log factor on the part's window.
        """
        features = self.features(probs)
        with torch.autocast(probs.device.type, enabled=False):  # bf16 is half a pixel off at 512
            out: Tensor = self.head(features.float()).view(probs.shape[0], self.num_parts, -1)
        if self.learn_scale:
            return out
        return torch.cat([out, out.new_zeros(*out.shape[:2], 1)], dim=2)
