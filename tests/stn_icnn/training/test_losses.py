"""The phases' losses on cases small enough to compute by hand."""

import math
from dataclasses import replace
from operator import itemgetter

import pytest
import torch

from stn_icnn.config import AugmentConfig
from stn_icnn.data.augmentation import draw
from stn_icnn.data.batch import Batch
from stn_icnn.geometry import theta_from_windows
from stn_icnn.label_sets import PAPER9
from stn_icnn.networks.model import Parsing
from stn_icnn.training.losses import coarse_loss, fine_loss, localizer_loss
from tests.samples import Sample, collate

SIDE = 32
SURE = 30.0


def face(labels: torch.Tensor, mirrored: bool | None = None) -> Sample:
    """A face of 32 px with its nose at (8, 16) and its left eye at (24, 8), nothing else."""
    augmentation = None
    if mirrored is not None:
        plain = draw(
            AugmentConfig(operations=False),
            PAPER9,
            [(SIDE, SIDE)],
            [0],
            [[0]],
        )
        plain = plain.map(itemgetter(0))
        flip = torch.tensor([[-1.0, 0, SIDE], [0, 1, 0]])
        augmentation = replace(plain, mirrored=torch.tensor(True), affine=flip)
        augmentation = augmentation if mirrored else plain
    centres = torch.zeros(6, 2)
    centres[2], centres[4] = torch.tensor([24.0, 8.0]), torch.tensor([8.0, 16.0])
    return Sample(
        key="a",
        image=torch.zeros(3, SIDE, SIDE, dtype=torch.uint8),
        labels=labels,
        centres=centres,
        present=torch.tensor([False, False, True, False, True, False]),
        augmentation=augmentation,
    )


def plain_labels(name: str = "background") -> torch.Tensor:
    return torch.full((SIDE, SIDE), PAPER9.class_id[name], dtype=torch.uint8)


def sure_of(classes: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Logits `[..., C, H, W]` that are sure of a class."""
    return SURE * torch.nn.functional.one_hot(classes.long(), num_classes).movedim(-1, -3).float()


# --- coarse


def test_an_even_guess_costs_log_9_an_image():
    logits = torch.zeros(3, 9, 16, 16)
    batch = collate([face(plain_labels("nose"))] * 3)
    assert coarse_loss(logits, batch, PAPER9).item() == pytest.approx(3 * math.log(9))


@pytest.mark.parametrize("name", ["nose", "left_brow", "lower_lip", "skin", "hair"])
def test_every_class_has_its_channel_and_skin_and_hair_are_background(name: str):
    channel = (
        PAPER9.model_classes.index(PAPER9.class_id[name])
        if PAPER9.class_id[name] in PAPER9.model_classes
        else 0
    )
    right = sure_of(torch.full((1, 16, 16), channel), 9)
    batch = collate([face(plain_labels(name))])
    assert coarse_loss(right, batch, PAPER9).item() == pytest.approx(0, abs=1e-6)
    assert coarse_loss(right.roll(1, dims=1), batch, PAPER9).item() == pytest.approx(SURE)


def test_coarse_labels_are_those_of_the_image_without_its_padding():
    """A small image beside a large one: its quarters are the quarters of the coarse truth."""
    small = replace(
        face(plain_labels()[:8, :8].contiguous()), image=torch.zeros(3, 8, 8, dtype=torch.uint8)
    )
    small.labels[:4, 4:] = PAPER9.class_id["nose"]
    truth = torch.zeros(16, 16)
    truth[:8, 8:] = PAPER9.model_classes.index(PAPER9.class_id["nose"])
    logits = sure_of(torch.stack([truth, torch.zeros(16, 16)]), 9)
    batch = collate([small, face(plain_labels())])
    assert coarse_loss(logits, batch, PAPER9).item() == pytest.approx(0, abs=1e-6)


def test_a_mirrored_face_is_mirrored_and_relabelled():
    labels = plain_labels()
    labels[:, :8] = PAPER9.class_id["left_eye"]
    seen = torch.zeros(1, 16, 16)
    seen[..., -4:] = PAPER9.model_classes.index(PAPER9.class_id["right_eye"])
    logits = sure_of(seen, 9)
    assert coarse_loss(logits, collate([face(labels, mirrored=True)]), PAPER9).item() < 1e-6
    assert coarse_loss(logits, collate([face(labels, mirrored=False)]), PAPER9).item() > 1


# --- localizer


def locations(nose: tuple[float, ...], left_eye: tuple[float, ...]) -> torch.Tensor:
    out = torch.full((1, 6, 3), 9.0)  # far off, for the parts that are not there
    out[0, 4], out[0, 2] = torch.tensor(nose), torch.tensor(left_eye)
    return out


def test_localizer_loss_is_smooth_l1_in_theta_s_units():
    batch = collate([face(plain_labels())])  # nose at (0.25, 0.5), left eye at (0.75, 0.25)
    exact = locations((0.25, 0.5, 0), (0.75, 0.25, 0))
    assert localizer_loss(exact, batch).item() == 0
    off = locations((0.35, 0.5, 0.4), (0.75, 1.25, 0))
    # 0.2 and 0.4: halves of squares; 2: less a half. Of 6 parts times 3 outputs.
    expected = (0.5 * 0.2**2 + 0.5 * 0.4**2 + 1.5) / 18
    assert localizer_loss(off, batch).item() == pytest.approx(expected)


def test_parts_that_are_not_there_give_no_gradient():
    batch = collate([face(plain_labels())])
    out = locations((0.3, 0.5, 0.1), (0.7, 0.2, 0.1)).requires_grad_()
    localizer_loss(out, batch).backward()
    assert (out.grad[0].abs().sum(dim=1) > 0).tolist() == [False, False, True, False, True, False]


def test_a_mirrored_face_s_left_eye_is_sought_as_its_right():
    batch = collate([face(plain_labels(), mirrored=True)])
    out = locations((0.75, 0.5, 0), (9, 9, 9))
    out[0, 3] = torch.tensor([0.25, 0.25, 0])
    assert localizer_loss(out, batch).item() == pytest.approx(0)


def test_losses_are_sums_over_samples():
    one, two = face(plain_labels("nose")), face(plain_labels(), mirrored=None)
    out = torch.cat([locations((0.3, 0.5, 0.1), (0.7, 0.2, 0)), locations((0, 0, 0), (0, 0, 0))])
    alone = [localizer_loss(out[i : i + 1], collate([s])) for i, s in enumerate([one, two])]
    assert localizer_loss(out, collate([one, two])).item() == pytest.approx(sum(alone).item())


# --- fine


def parsing(batch: Batch, logits: dict[str, torch.Tensor], px: int) -> Parsing:
    """Windows of `px` about (8.5, 16.5), for all parts alike."""
    windows = torch.tensor([8.5, 16.5, px, px]).expand(len(batch), 6, 4)
    theta = {
        name: theta_from_windows(windows[:, list(PAPER9.parts_of_network[name])], batch.canvas_size)
        for name in logits
    }
    empty = torch.zeros(len(batch), 6, 3)
    return Parsing(
        torch.zeros(len(batch), 9, 16, 16), empty, windows, batch.sizes, theta, logits, PAPER9
    )


def right_logits(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each network's logits, sure of the truth in its patches, from labels `[px, px]` there."""
    logits = {}
    for name, parts in PAPER9.parts_of_network.items():
        per_part = []
        for part in parts:
            table = torch.zeros(PAPER9.num_classes)
            table[list(PAPER9.part_classes[part])] = torch.arange(
                1.0, 1 + len(PAPER9.part_classes[part])
            )
            per_part.append(sure_of(table[labels.long()], 1 + len(PAPER9.part_classes[part])))
        logits[name] = torch.stack(per_part)[None]
    return logits


@pytest.fixture
def mixed() -> torch.Tensor:
    """A label map in which every class occurs within rows 12 to 21 and columns 4 to 13."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        0, PAPER9.num_classes, (SIDE, SIDE), dtype=torch.uint8, generator=generator
    )


def test_fine_loss_is_0_where_all_parts_are_right(mixed: torch.Tensor):
    batch = collate([face(mixed)])
    logits = right_logits(mixed[12:21, 4:13])
    assert fine_loss(parsing(batch, logits, 9), batch).item() == pytest.approx(0, abs=1e-6)


def test_fine_loss_is_a_mean_over_parts(mixed: torch.Tensor):
    """Even guesses of nose (2 ways) and mouth (4 ways), the other four right."""
    batch = collate([face(mixed)] * 2)
    logits = {
        name: each.repeat(2, 1, 1, 1, 1) for name, each in right_logits(mixed[12:21, 4:13]).items()
    }
    logits["nose"] = torch.zeros_like(logits["nose"])
    logits["mouth"] = torch.zeros_like(logits["mouth"])
    expected = 2 * (math.log(2) + math.log(4)) / 6
    assert fine_loss(parsing(batch, logits, 9), batch).item() == pytest.approx(expected, rel=1e-5)


def test_both_parts_of_a_pair_are_told_apart(mixed: torch.Tensor):
    batch = collate([face(mixed)])
    logits = right_logits(mixed[12:21, 4:13])
    logits["eye"] = logits["eye"].flip(1)
    assert fine_loss(parsing(batch, logits, 9), batch).item() > 0.5


def test_fine_truth_of_a_mirrored_face_is_relabelled():
    """A left eye everywhere, mirrored: a right eye everywhere."""
    batch = collate([face(plain_labels("left_eye"), mirrored=True)])
    for name, is_right in (("right_eye", True), ("left_eye", False)):
        logits = right_logits(plain_labels(name)[:9, :9])
        loss = fine_loss(parsing(batch, logits, 9), batch).item()
        assert (loss < 1e-6) == is_right
