"""Slicing and sampling: by hand, alike for odd patches on pixels, half a pixel apart for even."""

import pytest
import torch

from stn_icnn.studies.parity import (
    compare_patches,
    cut_both_ways,
    on_corner,
    on_pixel,
    sample_patches,
    slice_patch,
    source_positions,
)

HEIGHT, WIDTH = 7, 10


def numbered() -> torch.Tensor:
    """`[1, 7, 10]` uint8: row times ten and column."""
    return torch.arange(HEIGHT * WIDTH, dtype=torch.uint8).view(1, HEIGHT, WIDTH)


def noise(height: int = 61, width: int = 83) -> torch.Tensor:
    dice = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, height, width), generator=dice, dtype=torch.uint8)


def test_a_slice_by_hand() -> None:
    odd = slice_patch(numbered(), (6.5, 2.5), 3)
    assert odd[0].tolist() == [[15, 16, 17], [25, 26, 27], [35, 36, 37]]
    even = slice_patch(numbered(), (6.5, 2.5), 2)
    assert even[0].tolist() == [[15, 16], [25, 26]]
    corner = slice_patch(numbered(), (7.0, 3.0), 2)
    assert corner[0].tolist() == [[26, 27], [36, 37]]


def test_a_slice_over_the_edges_is_0_outside() -> None:
    assert slice_patch(numbered(), (0.5, 6.5), 3)[0].tolist() == [[0, 50, 51], [0, 60, 61], [0] * 3]
    assert slice_patch(numbered(), (9.5, 0.5), 3)[0].tolist() == [[0] * 3, [8, 9, 0], [18, 19, 0]]


def test_a_sampled_even_patch_is_the_mean_of_four_pixels() -> None:
    patch = sample_patches(numbered(), torch.tensor([[6.5, 2.5]]), 2)
    expected = torch.tensor([[20.5, 21.5], [30.5, 31.5]])
    torch.testing.assert_close(patch[0, 0], expected, atol=1e-4, rtol=0)


def test_points_are_brought_to_pixels_and_corners() -> None:
    points = torch.tensor([[3.2, 4.9], [3.7, 0.4]])
    assert on_pixel(points).tolist() == [[3.5, 4.5], [3.5, 0.5]]
    assert on_corner(points).tolist() == [[3.0, 5.0], [4.0, 0.0]]


CENTRES = torch.tensor([[30.2, 20.9], [50.8, 41.1], [2.0, 58.0], [82.9, 3.4]])
"""The last two near the edges."""


@pytest.mark.parametrize("px", [1, 9, 41, 81])
def test_odd_patches_on_pixels_are_alike(px: int) -> None:
    difference = compare_patches(*cut_both_ways(noise(), on_pixel(CENTRES), px))
    assert difference.largest == 0
    assert difference.share == 0
    assert difference.largest_unrounded < 2e-4 * 255


@pytest.mark.parametrize("px", [2, 10, 40, 80])
def test_even_patches_are_alike_on_corners_alone(px: int) -> None:
    assert compare_patches(*cut_both_ways(noise(), on_corner(CENTRES), px)).largest == 0
    apart = compare_patches(*cut_both_ways(noise(), on_pixel(CENTRES), px))
    assert apart.largest > 50
    assert apart.share > 0.4  # much of the largest patches lies outside


def test_differences_by_hand() -> None:
    sliced = torch.tensor([10, 20, 30, 40], dtype=torch.uint8)
    sampled = torch.tensor([10.4, 20.0, 27.2, 41.0])
    difference = compare_patches(sliced, sampled)
    assert difference.largest == 3
    assert difference.share == 0.5
    assert difference.largest_unrounded == pytest.approx(2.8, abs=1e-5)
    assert difference.mean_unrounded == pytest.approx(4.2 / 4, abs=1e-5)


def test_where_patches_of_figure_7_come_from() -> None:
    sliced, sampled = source_positions(4)
    assert sliced == [-2, -1, 0, 1]
    assert sampled == pytest.approx([-1.5, -0.5, 0.5, 1.5], abs=1e-4)
    sliced, sampled = source_positions(5)
    assert sliced == [-2, -1, 0, 1, 2]
    assert sampled == pytest.approx(sliced, abs=1e-4)
