"""Runs the bare networks as the parser does; measures their arithmetic and the device's peak."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import DEVICE
from stn_icnn.config import Network, TrainConfig
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.networks.icnn import ICNN
from stn_icnn.networks.localizer import Localizer
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.studies.timing import Work
from stn_icnn.training.phases import PHASES, PhaseName

MATRIX = 8192 if DEVICE.type == "cuda" else 2048
"""Side of the matrices whose product is taken for the device's peak."""

Inputs = list[tuple[nn.Module, Tensor]]


def recorded(parser: FaceParser, photos: Sequence[NDArray[np.uint8]]) -> Work:
    """Returns work that runs the networks alone, on their inputs for these photographs.

    Modules, inputs, their memory layout and autocast are those of the parser.
    """
    calls: list[tuple[nn.Module, tuple[Tensor, ...], bool]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.append((module, inputs, torch.is_autocast_enabled(DEVICE.type)))

    networks = [m for m in parser.model.modules() if isinstance(m, ICNN | Localizer)]
    hooks = [network.register_forward_pre_hook(note) for network in networks]
    parser.parse_all(photos)
    for hook in hooks:
        hook.remove()
    assert {id(module) for module, _, _ in calls} == {id(network) for network in networks}, (
        "the parser runs other networks than those of `parser.model`: the bench must follow it"
    )

    @torch.inference_mode()
    def run() -> None:
        for module, inputs, bf16 in calls:
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
                module(*inputs)

    return run


def inputs_of(model: STNiCNN, num: int) -> dict[Network, Inputs]:
    """Returns the networks, each with random input of the size that `num` faces make."""
    px = model.config.coarse_px
    fine = []
    for name, network in model.fine.items():
        side = model.config.patch_px[name]
        num_parts = len(model.label_set.parts_of_network[name])
        patches = torch.rand(num * num_parts, 3, side, side, device=DEVICE)
        fine.append((network, patches))
    return {
        "coarse": [(model.coarse, torch.rand(num, 3, px, px, device=DEVICE))],
        "localizer": [(model.localizer, torch.rand(num, 9, px, px, device=DEVICE))],
        "fine": fine,
    }


def forward_flops(config: TrainConfig) -> dict[Network, int]:
    """Counts each network's floating point operations a face, forward; a multiply-add is two."""
    model = build_model(config.model).to(DEVICE).eval()
    found: dict[Network, int] = {}
    for name, calls in inputs_of(model, 1).items():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            for network, x in calls:
                network(x)
        found[name] = counter.get_total_flops()
    return found


def step_flops(config: TrainConfig, phase: PhaseName) -> int:
    """Returns those of a training step, an image: a network that is trained counts three times."""
    rates, forward = PHASES[phase].rates, forward_flops(config)
    networks = PHASES[phase].trained_networks
    return sum(forward[name] * (3 if name in rates else 1) for name in networks)


def matrix_product(bf16: bool) -> tuple[Work, int]:
    """Returns a large matrix product in the networks' precision, and its number of operations."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    a = torch.rand(MATRIX, MATRIX, device=DEVICE).to(dtype)
    b = torch.rand(MATRIX, MATRIX, device=DEVICE).to(dtype)
    return lambda: a @ b, 2 * MATRIX**3
