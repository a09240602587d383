"""Covering parts of a face: which ones, which pixels, and with what."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.label_sets import PAPER9
from stn_icnn.studies.occlusion import choose_parts, cover, cover_batch
from tests.samples import Sample, collate

EVERY = [True] * PAPER9.num_parts
NAMES = [part.name for part in PAPER9.parts]
EYE, NOSE, MOUTH = NAMES.index("left_eye"), NAMES.index("nose"), NAMES.index("mouth")
SIDE = 100
MARGIN_PX = 2
"""Of an image of that side."""


@pytest.fixture
def batch(tiny_faces: Callable[..., ShardedFaces]) -> Batch:
    """Three faces of different sizes."""
    faces = tiny_faces("train", False)
    return faces.__getitems__([Request(i) for i in range(3)])


def test_parts_depend_on_seed_and_key_alone() -> None:
    assert choose_parts("a", EVERY, 2, seed=3) == choose_parts("a", EVERY, 2, seed=3)
    by_key = {tuple(choose_parts(f"face-{i}", EVERY, 2, seed=0)) for i in range(200)}
    assert len(by_key) == 15  # all pairs of six
    by_seed = {tuple(choose_parts("a", EVERY, 2, seed=i)) for i in range(200)}
    assert len(by_seed) == 15


def test_fewer_parts_are_among_more() -> None:
    drawn = [set(choose_parts("a", EVERY, num, seed=0)) for num in range(1, 6)]
    assert [len(parts) for parts in drawn] == [1, 2, 3, 4, 5]
    assert all(fewer < more for fewer, more in pairwise(drawn))


def test_only_parts_that_are_there_are_chosen() -> None:
    present = [part.name in ("nose", "left_eye") for part in PAPER9.parts]
    assert choose_parts("a", present, 5, seed=0) == [EYE, NOSE]
    assert choose_parts("a", [False] * PAPER9.num_parts, 2, seed=0) == []


def two_parts() -> tuple[torch.Tensor, torch.Tensor]:
    """A red nose close above a white mouth in green: rows 40 to 49 and 51 to 55 of 100."""
    labels = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    labels[40:50, 30:45] = PAPER9.class_id["nose"]
    labels[51:56, 30:45] = PAPER9.class_id["upper_lip"]
    image = torch.empty(3, SIDE, SIDE, dtype=torch.uint8)
    image[:] = torch.tensor([10, 200, 30])[:, None, None]
    image[:, labels == PAPER9.class_id["nose"]] = torch.tensor([[250], [0], [0]], dtype=torch.uint8)
    image[:, labels == PAPER9.class_id["upper_lip"]] = 255
    return image, labels


def test_a_part_is_filled_from_around_it_and_no_other_part_is_touched() -> None:
    image, labels = two_parts()
    before = image.clone()
    covered = cover(image, labels, [NOSE], PAPER9)
    assert torch.equal(image, before)
    green = torch.tensor([10, 200, 30], dtype=torch.uint8)[:, None]
    assert torch.equal(covered[:, 40:50, 30:45].flatten(1), green.expand(3, 150))
    mouth = labels == PAPER9.class_id["upper_lip"]
    assert bool((covered[:, mouth] == 255).all())
    rest = (labels == 0).expand(3, SIDE, SIDE)
    assert torch.equal(covered[rest], before[rest])


def test_the_margin_is_covered_too_and_nothing_beyond_it() -> None:
    _, labels = two_parts()
    labels[51:56] = 0
    dice = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (3, SIDE, SIDE), generator=dice, dtype=torch.uint8)
    changed = (cover(noise, labels, [NOSE], PAPER9) != noise).any(dim=0)
    hole = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    hole[40 - MARGIN_PX : 50 + MARGIN_PX, 30 - MARGIN_PX : 45 + MARGIN_PX] = True
    assert torch.equal(changed, hole)


def test_all_classes_of_the_mouth_are_covered() -> None:
    image, labels = two_parts()
    labels[51:53, 30:45] = PAPER9.class_id["inner_mouth"]
    labels[54:56, 30:45] = PAPER9.class_id["lower_lip"]
    covered = cover(image, labels, [MOUTH], PAPER9)
    assert not bool((covered[:, 51:56, 30:45] == 255).all(dim=0).any())
    assert bool((covered[0, 40:50, 30:45] == 250).all())


def test_a_part_at_the_edge_and_one_that_is_not_there() -> None:
    image, labels = two_parts()
    labels[:] = 0
    labels[:4, 96:] = PAPER9.class_id["left_eye"]
    image[:, :4, 96:] = 0
    assert int(cover(image, labels, [EYE], PAPER9)[1, :4, 96:].min()) > 150
    assert torch.equal(cover(image, labels, [NOSE], PAPER9), image)
    assert torch.equal(cover(image, torch.zeros_like(labels), [], PAPER9), image)


def test_near_colours_count_most() -> None:
    _, labels = two_parts()
    image = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
    image[:, :, 38:] = 240
    row = cover(image, labels, [NOSE], PAPER9)[0, 45].int()
    assert row[30] < 60
    assert row[44] > 180


def test_a_canvas_does_not_change_what_is_covered() -> None:
    _, labels = two_parts()
    dice = torch.Generator().manual_seed(0)
    image = torch.randint(256, (3, SIDE, SIDE), generator=dice, dtype=torch.uint8)
    present = torch.tensor([name in ("nose", "mouth") for name in NAMES])
    small = Sample("a", image, labels, torch.zeros(PAPER9.num_parts, 2), present)
    large = Sample(
        "b",
        torch.zeros(3, 400, 400, dtype=torch.uint8),
        torch.zeros(400, 400, dtype=torch.uint8),
        torch.zeros(PAPER9.num_parts, 2),
        torch.zeros(PAPER9.num_parts, dtype=torch.bool),
    )
    out, covered = cover_batch(collate([small, large]), num_covered=2, seed=0, label_set=PAPER9)
    assert covered.sum(dim=1).tolist() == [2, 0]
    assert torch.equal(out.images[0, :, :SIDE, :SIDE], cover(image, labels, [NOSE, MOUTH], PAPER9))
    assert not bool(out.images[1].any())


def test_faces_of_a_batch_are_covered_as_alone(batch: Batch) -> None:
    assert batch.labels is not None
    assert batch.present is not None
    before = batch.images.clone()
    out, covered = cover_batch(batch, num_covered=2, seed=5, label_set=PAPER9)
    assert torch.equal(batch.images, before)
    assert covered.sum(dim=1).tolist() == [2, 2, 2]
    assert bool(batch.present[covered].all())
    for i, (width, height) in enumerate(batch.host_sizes):
        parts = choose_parts(batch.keys[i], batch.present[i].tolist(), 2, seed=5)
        assert covered[i].nonzero().flatten().tolist() == parts
        own = batch.images[i, :, :height, :width], batch.labels[i, :height, :width]
        assert torch.equal(out.images[i, :, :height, :width], cover(*own, parts, PAPER9))
        assert not bool(out.images[i, :, height:].any())
        assert not bool(out.images[i, :, :, width:].any())


def test_a_covered_part_changes_and_others_do_not(batch: Batch) -> None:
    out, covered = cover_batch(batch, num_covered=2, seed=0, label_set=PAPER9)
    assert batch.labels is not None
    assert batch.present is not None
    for i in range(len(batch)):
        changed = (out.images[i] != batch.images[i]).any(dim=0)
        for part in range(PAPER9.num_parts):
            if not batch.present[i, part]:
                continue
            pixels = torch.isin(batch.labels[i], torch.tensor(PAPER9.part_classes[part]))
            share = changed[pixels].float().mean().item()
            assert share > 0.9 if covered[i, part] else share == 0
