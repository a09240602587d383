"""Scenes: labels, centres and owners say where a scene's faces are, whatever was done to them."""

import pytest
import torch

from stn_icnn.data.scenes import Scenes, compose_scenes
from stn_icnn.label_sets import PAPER9
from stn_icnn.training.finding import fit_frames
from tests.block_faces import block_faces, block_mean_face

PX = 192


@pytest.fixture
def one_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scene shows one face, in the whole of its photograph."""
    monkeypatch.setattr("stn_icnn.data.scenes.NUM_FACES", (0.0, 1.0, 0.0, 0.0))
    monkeypatch.setattr("stn_icnn.data.scenes.OWN_PHOTO", 1.0)


def scenes_of(number: int, first_seed: int = 0, cell_px: int = 2) -> Scenes:
    seeds = range(first_seed, first_seed + number)
    return compose_scenes(block_faces(number), PAPER9, PX, seeds, cell_px)


def test_a_scene_is_a_picture_with_labels_of_its_cells() -> None:
    scenes = scenes_of(6, cell_px=4)
    assert scenes.images.shape == (6, 3, PX, PX)
    assert scenes.images.dtype == torch.float32
    assert 0 <= scenes.images.min() < scenes.images.max() <= 1
    assert scenes.labels.shape == scenes.owner.shape == (6, PX // 4, PX // 4)
    assert scenes.labels.dtype == torch.uint8
    assert len(scenes.centres) == len(scenes.present) == len(scenes.scene)


@pytest.mark.usefixtures("one_face")
@pytest.mark.parametrize("cell_px", [1, 2])
def test_labels_lie_where_the_parts_centres_are(cell_px: int) -> None:
    """Of faces moved, turned and mirrored: centroids of a part's cells agree with its centre."""
    scenes = scenes_of(24, cell_px=cell_px)
    side = fit_frames(block_mean_face(), scenes.centres, scenes.present)[:, 2]
    num_checked = 0
    for face, i in enumerate(scenes.scene):
        for part, classes in enumerate(PAPER9.part_classes):
            centre = scenes.centres[face, part]
            margin = 0.08 * float(side[face])
            if not bool(((centre > margin) & (centre < PX - margin)).all()):
                continue  # it may be cut off
            rows, columns = torch.isin(scenes.labels[i], torch.tensor(classes)).nonzero().T
            centroid = (torch.stack([columns, rows], dim=1).float() + 0.5).mean(dim=0) * cell_px
            assert (centroid - centre).norm() < 0.01 * side[face] + 0.5 * cell_px, (i, part)
            num_checked += 1
    assert num_checked > 80


def test_a_mirrored_face_is_one_whose_left_and_right_are_exchanged() -> None:
    """The subject's left is where it is in any face; colours tell which faces are mirrored."""
    scenes = scenes_of(40)
    names = [part.name for part in PAPER9.parts]
    left, right, mouth = (
        scenes.centres[:, names.index(name)] for name in ("left_eye", "right_eye", "mouth")
    )
    across, down = left - right, mouth - (left + right) / 2
    turn = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
    assert bool((turn > 0).all()), "as in a photograph that nothing was done to"

    sides = set()
    for face, i in enumerate(scenes.scene):
        x, y = (left[face] / 2).long().tolist()
        inside = 0 <= x < PX // 2 and 0 <= y < PX // 2
        if inside and scenes.owner[i, y, x] == face and scenes.labels[i, y, x]:
            assert scenes.labels[i, y, x] == PAPER9.class_id["left_eye"]
            red, _, blue = scenes.images[i, :, 2 * y, 2 * x].tolist()
            if abs(red - blue) > 0.1:
                sides.add(red > blue)
    assert sides == {True, False}


def test_the_same_seed_makes_the_same_scene_of_a_batch_whatever_the_other_seeds_are() -> None:
    batch = block_faces(6)
    one = compose_scenes(batch, PAPER9, PX, [1, 2, 3, 4, 5, 6])
    other = compose_scenes(batch, PAPER9, PX, [11, 2, 13, 14, 5, 16])
    for i in (1, 4):
        assert one.images[i].equal(other.images[i])
        assert one.labels[i].equal(other.labels[i])
        own = [one.centres[k] for k, scene in enumerate(one.scene) if scene == i]
        again = [other.centres[k] for k, scene in enumerate(other.scene) if scene == i]
        assert all(a.equal(b) for a, b in zip(own, again, strict=True))
    assert not any(one.images[i].equal(other.images[i]) for i in (0, 2, 3, 5))


def test_a_scene_without_faces_has_no_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stn_icnn.data.scenes.NUM_FACES", (1.0, 0.0, 0.0, 0.0))
    scenes = scenes_of(3)
    assert not scenes.labels.any()
    assert bool((scenes.owner == -1).all())
    assert scenes.centres.shape == (0, 6, 2)
    assert scenes.present.shape == (0, 6)
    assert scenes.scene == ()


def test_further_faces_of_a_scene_are_others_of_the_batch_and_cover_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stn_icnn.data.scenes.NUM_FACES", (0.0, 0.0, 0.0, 1.0))
    scenes = scenes_of(5)
    assert scenes.scene == tuple(i for i in range(5) for _ in range(3))
    for i in range(5):
        shown = set(scenes.owner[i].unique().tolist()) - {-1}
        assert shown <= {3 * i, 3 * i + 1, 3 * i + 2}
        assert len(shown) >= 2
    alone = compose_scenes(block_faces(1), PAPER9, PX, [0])
    assert alone.scene == (0,), "a batch of one face has no others"


def test_all_numbers_of_faces_occur_as_often_as_they_should() -> None:
    batch = block_faces(4)
    numbers = [0] * 4
    for seed in range(0, 400, 4):
        scenes = compose_scenes(batch, PAPER9, 64, range(seed, seed + 4))
        for i in range(4):
            numbers[scenes.scene.count(i)] += 1
    assert all(
        abs(number / 400 - share) < 0.08
        for number, share in zip(numbers, (0.13, 0.62, 0.17, 0.08), strict=True)
    )
