"""The interlinked network, and what of the whole model is public: its size and its keys."""

import hashlib

import pytest
import torch

from stn_icnn.config import ModelConfig
from stn_icnn.networks.icnn import ICNN
from stn_icnn.networks.model import build_model


def num_parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (17, 25), (9, 31)])
def test_logits_have_the_input_s_size(size: tuple[int, int], kernel_size: int):
    logits = ICNN(4, kernel_size)(torch.rand(2, 3, *size))
    assert logits.shape == (2, 4, *size)


@pytest.mark.parametrize(
    ("num_classes", "kernel_size", "expected"), [(9, 3, 200_537), (9, 5, 554_761), (2, 3, 196_904)]
)
def test_number_of_parameters(num_classes: int, kernel_size: int, expected: int):
    assert num_parameters(ICNN(num_classes, kernel_size)) == expected


def test_number_of_parameters_of_the_whole_model():
    assert num_parameters(build_model(ModelConfig())) == 1_162_523


def test_the_names_of_the_weights_are_those_of_earlier_model_files():
    keys = sorted(build_model(ModelConfig()).state_dict())
    prefixes = {".".join(key.split(".")[:2]) for key in keys}
    assert prefixes == {
        *(f"coarse.{child}" for child in ("stems", "interlinked", "integrate", "head")),
        *(f"fine.{network}" for network in ("brow", "eye", "nose", "mouth")),
        *(f"localizer.{child}" for child in ("features", "head")),
    }
    assert len(keys) == 1030
    assert hashlib.sha256("\n".join(keys).encode()).hexdigest()[:12] == "d9fad7a01f1c"


def test_every_weight_is_used():
    """DDP stops at a parameter without a gradient."""
    network = ICNN(3)
    network(torch.rand(2, 3, 16, 16)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_one_corner_s_label_depends_on_the_other_corner():
    """The rows of a quarter and an eighth see far: what the interlinking is for."""
    network = ICNN(3).eval()
    image = torch.rand(1, 3, 33, 33, requires_grad=True)
    network(image)[0, 0, 0, 0].backward()
    assert image.grad[0, :, 25:, 25:].abs().max() > 0
