"""The composed parser: one differentiable path, the same for one image as for a batch."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from stn_icnn.config import TrainConfig
from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Request
from stn_icnn.networks.channels_last import WideBatchNorm2d
from stn_icnn.networks.execution import prepare_model
from stn_icnn.networks.model import STNiCNN, build_model
from stn_icnn.training.losses import fine_loss


@pytest.fixture
def model(tiny_config: TrainConfig) -> STNiCNN:
    torch.manual_seed(0)
    return build_model(tiny_config.model)


@pytest.fixture
def batch(tiny_faces) -> Batch:
    faces = tiny_faces("train", augmented=True)
    return faces.__getitems__([Request(i) for i in range(3)])


def test_shapes(model: STNiCNN, batch: Batch, tiny_config: TrainConfig) -> None:
    parsing = model(batch)
    coarse_px = tiny_config.model.coarse_px
    assert parsing.coarse_logits.shape == (3, 9, coarse_px, coarse_px)
    assert parsing.windows.shape == (3, 6, 4)
    for name, num_parts, channels in (
        ("brow", 2, 2),
        ("eye", 2, 2),
        ("nose", 1, 2),
        ("mouth", 1, 4),
    ):
        px = tiny_config.model.patch_px[name]
        assert parsing.theta[name].shape == (3, num_parts, 2, 3)
        assert parsing.part_logits[name].shape == (3, num_parts, channels, px, px)


def test_fine_loss_reaches_every_weight(model: STNiCNN, batch: Batch) -> None:
    """End to end: localizer and coarse network learn from the fine networks' loss alone."""
    fine_loss(model(batch), batch).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name


def test_mirrored_face_gives_mirrored_labels(model: STNiCNN, batch: Batch) -> None:
    """The parts of a pair share a network: a right brow is treated as a left one in a mirror."""
    model.eval()
    plain = replace(batch, augmentation=None)
    widths = plain.sizes[:, 0]
    windows = torch.zeros(len(plain), 6, 4)
    windows[..., :2] = plain.sizes[:, None] * torch.tensor([0.37, 0.45])
    windows[..., 2:] = 33.0
    images = torch.zeros_like(plain.images)
    for i, width in enumerate(widths.int().tolist()):
        images[i, :, :, :width] = plain.images[i, :, :, :width].flip(-1)
    flipped = windows.clone()
    flipped[..., 0] = widths[:, None] - windows[..., 0]
    _, logits = model.label_parts(plain, windows)
    _, mirrored = model.label_parts(replace(plain, images=images), flipped)
    for network in ("brow", "eye"):
        left = logits[network][:, 0]
        right = mirrored[network][:, 1].flip(-1)
        torch.testing.assert_close(left, right, atol=1e-3, rtol=1e-3)


def test_canvas_does_not_change_a_face(model: STNiCNN, tiny_faces) -> None:
    """A face is parsed alike alone and beside a larger one."""
    model.eval()
    faces = tiny_faces("train", augmented=False)
    requests = [Request(i) for i in range(len(faces))]
    requests.sort(key=lambda request: faces[request].images[0].numel())
    small, large = requests[0], requests[-1]
    with torch.inference_mode():
        alone = model(faces[small])
        beside = model(faces.__getitems__([small, large]))
    torch.testing.assert_close(alone.windows[0], beside.windows[0], atol=1e-3, rtol=0)
    for name in alone.part_logits:
        torch.testing.assert_close(
            alone.part_logits[name][0], beside.part_logits[name][0], atol=2e-3, rtol=2e-3
        )


def test_bf16_changes_no_geometry(model: STNiCNN, batch: Batch, tiny_config: TrainConfig) -> None:
    """Under autocast windows stay float32, and move by what the networks' rounding moves them."""
    model.eval()
    with torch.inference_mode():
        exact = model(batch)
        prepare_model(model, replace(tiny_config, precision="bf16"), torch.device("cpu"))
        rounded = model(batch)
    assert rounded.windows.dtype == torch.float32
    assert (rounded.windows - exact.windows)[..., :2].abs().max() < 0.1
    assert all(theta.dtype == torch.float32 for theta in rounded.theta.values())


@pytest.mark.parametrize(
    ("has", "is_quicker"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, True),
        ({"cpu_name": "AMD EPYC"}, False),
        ({}, False),
    ],
)
def test_auto_precision_is_bf16_where_a_cpu_is_quicker_in_it(
    has: dict[str, Any],
    is_quicker: bool,
    model: STNiCNN,
    tiny_config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    cpu = torch.device("cpu")
    for precision, expected in (("auto", is_quicker), ("fp32", False), ("bf16", True)):
        prepared = prepare_model(model, replace(tiny_config, precision=precision), cpu)
        assert prepared.execution.bf16 == expected


def test_what_makes_a_model_quick_leaves_its_state_alone(
    model: STNiCNN, tiny_config: TrainConfig
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepare_model(model, tiny_config, torch.device("cpu"))
    assert any(isinstance(module, WideBatchNorm2d) for module in model.modules())
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
