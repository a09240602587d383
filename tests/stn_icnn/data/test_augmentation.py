"""Augmentation: what is drawn, where it moves a face, and what it does to labels and colours."""

from dataclasses import replace
from operator import itemgetter

import numpy as np
import pytest
import torch

from stn_icnn.config import AugmentConfig
from stn_icnn.data.augmentation import (
    NOISE,
    ROTATE,
    SCALE,
    SHIFT,
    Augmentation,
    _affine,
    draw,
)
from stn_icnn.label_sets import PAPER9
from tests.samples import join_augmentations

SIZE = (200, 100)
ALL_ON = AugmentConfig(mirror=0.5, colour=0.3, window_shift=0.1, window_scale=0.1)


def drawn(config: AugmentConfig = ALL_ON, seed: int = 0, copy: int = 0) -> Augmentation:
    """Of one sample."""
    return draw(config, PAPER9, [SIZE], [copy], [[seed]]).map(itemgetter(0))


def affine(*operations: int, mirrored: bool = False, **config: float) -> np.ndarray:
    """Every draw is its range's upper end."""
    chosen = np.isin([ROTATE, SHIFT, SCALE, NOISE], operations)
    highest = np.ones((1, 4))
    size = np.array([SIZE], np.float64)
    return _affine(AugmentConfig(**config), chosen[None], np.array([mirrored]), size, highest)[0]


def moved(matrix: np.ndarray, x: float, y: float) -> list[float]:
    """Where a point of the augmented frame lies in the stored image."""
    return (matrix[:, :2] @ [x, y] + matrix[:, 2]).tolist()


def test_the_same_seed_draws_the_same():
    one, same, other = drawn(seed=3), drawn(seed=3), drawn(seed=4)
    tensors = [name for name, value in vars(one).items() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 7
    for name in tensors:
        assert torch.equal(getattr(one, name), getattr(same, name))
    assert not torch.equal(one.affine, other.affine)
    assert not torch.equal(one.noise_seed, other.noise_seed)


def num_operations(item: Augmentation) -> int:
    """Counted from their effects."""
    linear = item.affine[:, :2]
    centre = torch.tensor(SIZE) / 2
    shifted = (linear @ centre + item.affine[:, 2] - centre).abs().max() > 1e-3
    scaled = abs(float(torch.linalg.det(linear)) - 1) > 1e-6
    rotated = float(linear[0, 1].abs()) > 1e-6
    return int(shifted) + int(scaled) + int(rotated) + int(item.noise_std > 0)


@pytest.mark.parametrize("copy", range(5))
def test_copy_i_of_five_has_i_operations(copy: int):
    found = {num_operations(drawn(AugmentConfig(copies=5), seed, copy)) for seed in range(20)}
    assert found == {copy}


def test_a_single_copy_has_from_none_to_all_four():
    found = {num_operations(drawn(AugmentConfig(), seed)) for seed in range(60)}
    assert found == {0, 1, 2, 3, 4}


def test_draws_stay_in_their_ranges():
    config = AugmentConfig(copies=5, rotation_deg=15, shift=0.2, scale_min=0.8, scale_max=1.2)
    for seed in range(50):
        matrix = drawn(config, seed, copy=4).affine.numpy().astype(np.float64)
        linear = matrix[:, :2]
        scale = np.linalg.det(linear) ** -0.5
        assert 0.8 <= scale <= 1.2
        assert abs(np.rad2deg(np.arctan2(linear[0, 1], linear[0, 0]))) <= 15.001
        # where the stored image's centre has been moved to, from the frame's centre
        x, y = np.linalg.inv(linear) @ ([100, 50] - matrix[:, 2]) - [100, 50]
        assert abs(x) <= 40.001
        assert abs(y) <= 20.001


def test_without_operations_nothing_is_done():
    item = drawn(AugmentConfig(operations=False, copies=5), copy=4)
    assert item.affine.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert item.noise_std == 0
    assert not item.mirrored
    assert not item.window_jitter.any()
    patches = torch.rand(1, 2, 3, 4, 4)
    seen = join_augmentations([item]).appearance(patches, stream=0)
    torch.testing.assert_close(seen, patches, atol=1e-6, rtol=0)


def test_shift_moves_the_face_by_a_share_of_width_and_height():
    matrix = affine(SHIFT, shift=0.1)
    assert moved(matrix, 0, 0) == pytest.approx([-20, -10])
    assert moved(matrix, 120, 60) == pytest.approx([100, 50])


def test_scale_enlarges_the_face_about_the_centre():
    matrix = affine(SCALE, scale_max=2.0)
    assert moved(matrix, 100, 50) == pytest.approx([100, 50])
    assert moved(matrix, 140, 30) == pytest.approx([120, 40])


def test_rotation_is_rigid_in_pixels_and_about_the_centre():
    """By 90 degrees clockwise what lay right of the centre lies below it, as far away."""
    matrix = affine(ROTATE, rotation_deg=90.0)
    assert moved(matrix, 100, 50) == pytest.approx([100, 50])
    assert moved(matrix, 100, 90) == pytest.approx([140, 50])
    assert moved(matrix, 70, 50) == pytest.approx([100, 80])


def test_mirror_is_about_the_middle_column():
    assert moved(affine(mirrored=True), 30, 20) == pytest.approx([170, 20])


def test_all_together_undo_shift_then_rotation_and_scale_then_mirror():
    matrix = affine(
        SHIFT, ROTATE, SCALE, mirrored=True, shift=0.1, rotation_deg=90.0, scale_max=2.0
    )
    # (130, 80) - shift (20, 10) is (10, 20) from the centre; turned back (20, -10); halved
    # (10, -5); mirrored (-10, -5)
    assert moved(matrix, 130, 80) == pytest.approx([90, 45])


def stacked(*items: Augmentation) -> Augmentation:
    return join_augmentations(items)


def test_noise_depends_on_the_sample_and_not_on_its_place_in_the_batch():
    config = AugmentConfig(copies=5, colour=0.3)
    first, second = drawn(config, 1, copy=4), drawn(config, 2, copy=4)
    patches = torch.rand(2, 2, 3, 5, 5)
    together = stacked(first, second).appearance(patches, stream=1)
    swapped = stacked(second, first).appearance(patches.flip(0), stream=1)
    alone = stacked(second).appearance(patches[1:], stream=1)
    torch.testing.assert_close(swapped.flip(0), together)
    torch.testing.assert_close(alone, together[1:])


def test_noise_has_its_deviation_and_differs_between_samplings():
    item = drawn(AugmentConfig(copies=5, noise_std=0.05), copy=4)
    grey = torch.full((1, 1, 3, 64, 64), 0.5)
    one, other = (stacked(item).appearance(grey, stream) - grey for stream in (0, 1))
    assert one.std().item() == pytest.approx(0.05, rel=0.05)
    assert one.mean().item() == pytest.approx(0, abs=2e-3)
    assert abs(np.corrcoef(one.flatten(), other.flatten())[0, 1]) < 0.05


def test_colour_changes_brightness_of_all_of_an_image():
    item = replace(drawn(), noise_std=torch.tensor(0.0))
    colour = torch.eye(3, 4)
    colour[0] = torch.tensor([0.5, 0, 0, 0.25])  # red: halved, and a quarter added
    patches = torch.rand(1, 2, 3, 4, 4)
    seen = stacked(replace(item, colour=colour)).appearance(patches, stream=0)
    torch.testing.assert_close(seen[:, :, 0], 0.5 * patches[:, :, 0] + 0.25)
    torch.testing.assert_close(seen[:, :, 1:], patches[:, :, 1:])


def test_a_mirrored_sample_s_left_and_right_classes_change_places():
    pair = stacked(*(replace(drawn(), mirrored=torch.tensor(is_so)) for is_so in (True, False)))
    row = torch.arange(11, dtype=torch.uint8)
    mirrored, plain = pair.relabel(torch.stack([row, row])[:, None])[:, 0].tolist()
    assert plain == list(range(11))
    assert mirrored[PAPER9.class_id["left_brow"]] == PAPER9.class_id["right_brow"]
    assert mirrored[PAPER9.class_id["right_brow"]] == PAPER9.class_id["left_brow"]
    assert mirrored[PAPER9.class_id["left_eye"]] == PAPER9.class_id["right_eye"]
    assert mirrored[PAPER9.class_id["right_eye"]] == PAPER9.class_id["left_eye"]
    unpaired = [0, 1, 6, 7, 8, 9, 10]
    assert [mirrored[i] for i in unpaired] == unpaired


def test_mirror_is_as_frequent_as_asked():
    count = sum(bool(drawn(AugmentConfig(mirror=0.25), seed).mirrored) for seed in range(400))
    assert 70 <= count <= 130
