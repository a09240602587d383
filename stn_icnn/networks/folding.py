"""Folding of batch norm into the convolutions before it, for inference."""

import copy
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Module = TypeVar("Module", bound=nn.Module)


def fold_batch_norm(module: Module) -> Module:
    """Returns a copy in `eval()` that computes the same with fewer layers.

    In a sequence, a batch norm behind a convolution scales and shifts the convolution's output by
    constants, which are folded into its weights and bias.
    """
    folded = copy.deepcopy(module).eval()
    for sequence in [m for m in folded.modules() if isinstance(m, nn.Sequential)]:
        for i, (conv, norm) in reversed(list(enumerate(pairwise(sequence)))):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequence[i] = fuse_conv_bn_eval(conv, norm)
                del sequence[i + 1]
    return folded
