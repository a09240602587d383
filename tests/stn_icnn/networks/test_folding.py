"""A folded model computes what the model does, without its batch norms."""

import torch
from torch import nn

from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.folding import fold_batch_norm
from stn_icnn.networks.icnn import ICNN
from stn_icnn.networks.localizer import Localizer


def trained(module: nn.Module) -> nn.Module:
    """As if it had been trained: its batch norms have statistics and weights of their own."""
    for norm in [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]:
        for values in (norm.weight, norm.running_var):
            nn.init.uniform_(values, 0.5, 2.0)
        for values in (norm.bias, norm.running_mean):
            nn.init.normal_(values)
    return module.eval()


def test_a_folded_network_computes_the_same() -> None:
    torch.manual_seed(0)
    for network, x in (
        (trained(ICNN(4)), torch.rand(2, 3, 37, 41)),
        (trained(Localizer(PAPER9, 64)), torch.rand(2, 9, 64, 64)),
    ):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        folded = fold_batch_norm(network)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
        with torch.inference_mode():
            expected, got = network(x), folded(x)
        assert (got - expected).abs().max() < 1e-4 * expected.abs().max()
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
