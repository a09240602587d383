"""The optimizer, Adam, and the schedule of its learning rates."""

import math
from collections.abc import Mapping

import torch

from stn_icnn.config import Network, OptimConfig
from stn_icnn.networks.model import STNiCNN
from stn_icnn.training.freezing import trained_parameters

WARM_UP_SHARE = 0.1
"""Share of the steps in which the schedule `one_cycle` goes up."""


def build_optimizer(model: STNiCNN, rates: Mapping[Network, float]) -> torch.optim.Optimizer:
    """Builds Adam with a group for each network that `set_trained` has readied.

    Args:
        model: whose networks are trained.
        rates: each one's learning rate; the schedule multiplies it. It is `peak_lr` of its group.
    """
    groups = [
        {"params": parameters, "lr": rates[name], "peak_lr": rates[name]}
        for name, parameters in trained_parameters(model)
    ]
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


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets each group's learning rate to its peak times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
