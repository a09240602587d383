"""The optimizer, Adam, and the schedule of its learning rates."""

import math
from collections.abc import Mapping

import torch

from stn_icnn.config import Network, OptimConfig
from stn_icnn.networks.model import STNiCNN

WARM_UP_SHARE = 0.1
"""Share of the steps in which the schedule `one_cycle` goes up."""


def build_optimizer(model: STNiCNN, rates: Mapping[Network, float]) -> torch.optim.Optimizer:
    """Builds Adam with a group for each network that is trained.

    Args:
        model: the model; its parameters that take a gradient are trained.
        rates: the peak learning rate of each network, which the schedule multiplies.
    """
    groups = []
    for name, rate in rates.items():
        parameters = [p for p in model.get_submodule(name).parameters() if p.requires_grad]
        if parameters:  # the centroid cropper has none
            groups.append({"params": parameters, "lr": rate, "peak_lr": rate})
    return torch.optim.Adam(groups, fused=True)


def lr_factor(optim: OptimConfig, step: int, steps_per_epoch: int, num_epochs: int) -> float:
    """Returns the factor on all learning rates at a step.

    Args:
        optim: the settings, which name the schedule.
        step: the step, counted from the start of the phase.
        steps_per_epoch: the number of steps in each epoch.
        num_epochs: the phase's number of epochs.
    """
    if optim.schedule == "halving":
        return float(0.5 ** (step // steps_per_epoch // optim.halve_every_epochs))
    done = (step + 0.5) / (steps_per_epoch * num_epochs)
    if done < WARM_UP_SHARE:
        return done / WARM_UP_SHARE
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))
