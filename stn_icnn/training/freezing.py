"""Which networks a phase trains: these are readied, and the others are frozen."""

from collections.abc import Collection, Iterator
from typing import get_args

from torch import nn

from stn_icnn.config import Network
from stn_icnn.networks.model import STNiCNN


def networks_by_name(model: STNiCNN) -> dict[Network, nn.Module]:
    """Returns the model's networks by the names that settings and phases call them."""
    return {name: model.get_submodule(name) for name in get_args(Network)}


def set_trained(
    model: STNiCNN,
    trained: Collection[Network],
    keeping_stats: Collection[Network] = (),
    fine: Collection[str] | None = None,
) -> None:
    """Readies the networks that are trained; the others get no gradient, and `eval()`.

    Args:
        model: changed in place.
        trained: the networks that are trained.
        keeping_stats: networks whose batch norm uses its running statistics and keeps them.
        fine: the fine networks that are trained, where `trained` has `fine`; None: all.
    """
    for name, network in networks_by_name(model).items():
        network.requires_grad_(name in trained)
        network.train(name in trained and name not in keeping_stats)
    for part, network in model.fine.items():
        if fine is not None and part not in fine:
            network.requires_grad_(False).eval()


def trained_parameters(model: STNiCNN) -> Iterator[tuple[Network, list[nn.Parameter]]]:
    """Yields each network that `set_trained` has readied, and its parameters with a gradient."""
    for name, network in networks_by_name(model).items():
        parameters = [p for p in network.parameters() if p.requires_grad]
        if parameters:
            yield name, parameters
