"""The composed parser: one differentiable path, and label maps that agree with a plain paste."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stn_icnn.batch import Batch, collate
from stn_icnn.config import TrainConfig
from stn_icnn.data import Request
from stn_icnn.evaluate import parse_batch, parse_batch_coarsely
from stn_icnn.labels import CLASS_ID, MODEL_CLASSES, PARTS, PARTS_OF_NETWORK
from stn_icnn.losses import fine_loss
from stn_icnn.model import Parsing, STNiCNN, build_model, computes_bf16, label_map, prepare_model


@pytest.fixture
def model(tiny_config: TrainConfig) -> STNiCNN:
    torch.manual_seed(0)
    return build_model(tiny_config.model)


@pytest.fixture
def batch(tiny_faces) -> Batch:
    faces = tiny_faces("train", augmented=True)
    return collate([faces[Request(i)] for i in range(3)])


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
        px = tiny_config.model.patch_px.of_network(name)
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
    samples = sorted(
        (faces[Request(i)] for i in range(len(faces))),
        key=lambda s: s.image.shape[1] * s.image.shape[2],
    )
    small, large = samples[0], samples[-1]
    with torch.inference_mode():
        alone = model(collate([small]))
        beside = model(collate([small, large]))
    torch.testing.assert_close(alone.windows[0], beside.windows[0], atol=1e-3, rtol=0)
    for name in alone.part_logits:
        torch.testing.assert_close(
            alone.part_logits[name][0], beside.part_logits[name][0], atol=2e-3, rtol=2e-3
        )


def parsing_with(part_logits: dict[str, Tensor], windows: Tensor) -> Parsing:
    nothing = torch.zeros(1)
    return Parsing(nothing, nothing, windows, {}, part_logits)


def confident(network: str, channel: int, px: int = 9) -> Tensor:
    """`[1, P, C, px, px]` logits that are sure of one channel for the network's first part."""
    parts = PARTS_OF_NETWORK[network]
    logits = torch.zeros(1, len(parts), 1 + len(PARTS[parts[0]].classes), px, px)
    logits[:, :, 0] = 20
    logits[:, 0, 0] = 0
    logits[:, 0, channel] = 20
    return logits


def test_parts_are_pasted_where_their_windows_lie() -> None:
    windows = torch.zeros(1, 6, 4)
    windows[0, :, :] = torch.tensor([5.0, 5.0, 4.0, 4.0])
    windows[0, 4] = torch.tensor([30.0, 20.0, 10.0, 8.0])
    windows[0, 5] = torch.tensor([31.0, 40.0, 12.0, 6.0])
    parsing = parsing_with({"nose": confident("nose", 1), "mouth": confident("mouth", 2)}, windows)
    labels = label_map(parsing, 0, (60, 50))
    assert bool((labels[16:24, 25:35] == CLASS_ID["nose"]).all())
    assert bool((labels[37:43, 25:37] == CLASS_ID["inner_mouth"]).all())
    assert int((labels != 0).sum()) == 8 * 10 + 6 * 12


def test_overlapping_parts_are_settled_by_the_surer() -> None:
    windows = torch.full((1, 6, 4), 20.0)
    nose = torch.zeros(1, 1, 2, 9, 9)
    nose[:, :, 1] = 1.0
    mouth = torch.zeros(1, 1, 4, 9, 9)
    mouth[:, :, 3] = 6.0
    labels = label_map(parsing_with({"nose": nose, "mouth": mouth}, windows), 0, (40, 40))
    assert labels[20, 20] == CLASS_ID["lower_lip"]


def test_label_map_at_twice_the_size_lies_on_the_same_face() -> None:
    windows = torch.full((1, 6, 4), 5.0)
    windows[0, 4] = torch.tensor([30.0, 20.0, 10.0, 8.0])
    parsing = parsing_with({"nose": confident("nose", 1)}, windows)
    twice = label_map(parsing, 0, (120, 100), scale=2.0)
    assert torch.equal(twice[::2, ::2], label_map(parsing, 0, (60, 50)))


def test_label_maps_have_the_images_sizes_and_the_models_classes(
    model: STNiCNN, batch: Batch
) -> None:
    plain = replace(batch, augmentation=None)
    for maps in (parse_batch(model, plain), parse_batch_coarsely(model, plain)):
        for i, labels in enumerate(maps):
            assert labels.dtype == torch.uint8
            assert tuple(labels.shape) == plain.host_sizes[i][::-1]
            assert set(labels.unique().tolist()) <= set(MODEL_CLASSES)


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


def test_auto_precision_follows_the_device(model: STNiCNN, tiny_config: TrainConfig) -> None:
    cpu = torch.device("cpu")
    prepare_model(model, replace(tiny_config, precision="auto"), cpu)
    assert model.bf16 == computes_bf16(cpu)
    prepare_model(model, replace(tiny_config, precision="fp32"), cpu)
    assert not model.bf16
