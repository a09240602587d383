"""Windows, theta, crop and paste, against integer slicing and hand-computed values."""

import pytest
import torch

from stn_icnn.config import AugmentConfig
from stn_icnn.data.augmentation import draw
from stn_icnn.geometry import (
    apply_affine,
    crop,
    crop_labels,
    fit_similarity,
    invert_affine,
    paste,
    reduce_images,
    theta_from_windows,
    whole_image,
)
from stn_icnn.label_sets import PAPER9


def image_of(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """`[1, 3, H, W]` uint8 of random pixels: any misplacement shows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)


def window(x: float, y: float, w: float, h: float) -> torch.Tensor:
    return torch.tensor([[[x, y, w, h]]])


def size(width: int, height: int) -> torch.Tensor:
    return torch.tensor([float(width), float(height)])


def test_theta_is_equation_14() -> None:
    theta = theta_from_windows(window(30, 50, 20, 10), size(100, 200))
    expected = torch.tensor([[0.2, 0, 2 * 30 / 100 - 1], [0, 10 / 200, 2 * 50 / 200 - 1]])
    torch.testing.assert_close(theta[0, 0], expected)


@pytest.mark.parametrize("px", [9, 81, 127])
@pytest.mark.parametrize(("width", "height"), [(512, 512), (301, 400), (1024, 683)])
def test_odd_patch_equal_to_its_window_is_integer_slicing(px: int, width: int, height: int) -> None:
    """The paper's Figure 8: the difference to the baseline's cropper is zero."""
    image = image_of(height, width)
    column, row = width // 3, height // 2  # the window's central pixel
    theta = theta_from_windows(window(column + 0.5, row + 0.5, px, px), size(width, height))
    cut = crop(image.float(), theta, px)[0, 0]
    half = px // 2
    sliced = image[0, :, row - half : row + half + 1, column - half : column + half + 1]
    assert torch.equal(cut.round().to(torch.uint8), sliced)
    as_shares = crop(image.float() / 255, theta, px)[0, 0]
    assert (as_shares - sliced.float() / 255).abs().max() < 2e-4


def test_even_patch_is_half_a_pixel_off() -> None:
    """The paper's Figure 7: an even patch centred on a pixel samples between pixels."""
    image = image_of(200, 200)
    theta = theta_from_windows(window(90.5, 70.5, 80, 80), size(200, 200))
    cut = crop(image.float(), theta, 80)[0, 0].round().to(torch.uint8)
    for left in (50, 51):
        for top in (30, 31):
            sliced = image[0, :, top : top + 80, left : left + 80]
            assert (cut != sliced).float().mean() > 0.9


def test_crop_is_zero_outside_the_image() -> None:
    image = torch.ones(1, 3, 20, 20)
    cut = crop(image, theta_from_windows(window(0.5, 10.5, 9, 9), size(20, 20)), 9)[0, 0]
    assert torch.allclose(cut[:, :, :4], torch.zeros(3, 9, 4), atol=1e-5)
    assert torch.allclose(cut[:, :, 4:], torch.ones(3, 9, 5), atol=1e-4)


def test_parts_and_images_do_not_mix() -> None:
    images = torch.cat([image_of(60, 50, seed=1), image_of(60, 50, seed=2)])
    windows = torch.tensor(
        [[[20.5, 30.5, 9, 9], [30.5, 25.5, 9, 9]], [[12.5, 44.5, 9, 9], [25.5, 25.5, 9, 9]]]
    )
    cut = crop(images.float(), theta_from_windows(windows, size(50, 60)), 9)
    for n in range(2):
        for p in range(2):
            x, y = windows[n, p, :2].int().tolist()
            sliced = images[n, :, y - 4 : y + 5, x - 4 : x + 5]
            assert torch.equal(cut[n, p].round().to(torch.uint8), sliced)


def test_label_crop_equals_slicing() -> None:
    labels = torch.randint(0, 11, (1, 70, 90), dtype=torch.uint8)
    theta = theta_from_windows(window(40.5, 30.5, 21, 21), size(90, 70))
    assert torch.equal(crop_labels(labels, theta, 21)[0, 0], labels[0, 20:41, 30:51])


def test_label_crop_is_background_outside() -> None:
    labels = torch.full((1, 20, 20), 6, dtype=torch.uint8)
    theta = theta_from_windows(window(0.5, 0.5, 9, 9), size(20, 20))
    cut = crop_labels(labels, theta, 9)[0, 0]
    assert int((cut == 6).sum()) == 25
    assert bool((cut[4:, 4:] == 6).all())


@pytest.mark.parametrize(("x", "y"), [(40.5, 30.5), (41.2, 29.7)])
def test_crop_then_paste_returns_the_part(x: float, y: float) -> None:
    labels = torch.zeros(1, 70, 90, dtype=torch.uint8)
    labels[0, 26:36, 33:49] = 6
    wanted = window(x, y, 31, 31)
    patch = crop_labels(labels, theta_from_windows(wanted, size(90, 70)), 31)[0, 0]
    pasted, rows, columns = paste(patch[None].float(), wanted[0, 0].tolist(), 90, 70)
    back = torch.zeros(70, 90, dtype=torch.uint8)
    back[rows, columns] = (pasted[0] > 3).to(torch.uint8) * 6
    assert torch.equal(back, labels[0])


def test_paste_returns_a_part_sampled_smaller() -> None:
    """A window of 60 px sampled to 31: back at its place, within a pixel of its border."""
    labels = torch.zeros(1, 120, 100, dtype=torch.uint8)
    labels[0, 40:64, 30:66] = 6
    wanted = window(47.0, 55.0, 60, 60)
    patch = crop_labels(labels, theta_from_windows(wanted, size(100, 120)), 31)[0, 0]
    pasted, rows, columns = paste(patch[None].float(), wanted[0, 0].tolist(), 100, 120)
    back = torch.zeros(120, 100)
    back[rows, columns] = pasted[0]
    assert bool((back[42:62, 32:64] > 3).all())
    outside = back.clone()
    outside[38:66, 28:68] = 0
    assert bool((outside < 3).all())


def test_paste_covers_the_pixels_inside_the_window_only() -> None:
    patch = torch.ones(1, 5, 5)
    _, rows, columns = paste(patch, (2.0, 50.0, 10.0, 6.0), 100, 52)
    assert (columns.start, columns.stop) == (0, 7)
    assert (rows.start, rows.stop) == (47, 52)


def test_paste_of_a_window_beside_the_image_is_empty() -> None:
    pasted, rows, columns = paste(torch.ones(2, 5, 5), (-30.0, 5.0, 8.0, 8.0), 20, 20)
    assert pasted.shape[2] == 0
    assert torch.zeros(20, 20)[rows, columns].numel() == 0


def test_affine_hand_computed() -> None:
    affine = torch.tensor([[[0.0, -2.0, 5.0], [3.0, 0.0, 7.0]]])
    points = torch.tensor([[[1.0, 2.0]]])
    assert apply_affine(affine, points).tolist() == [[[1.0, 10.0]]]
    there_and_back = apply_affine(invert_affine(affine), apply_affine(affine, points))
    torch.testing.assert_close(there_and_back, points)


@pytest.mark.parametrize("seed", range(4))
def test_augmenting_windows_equals_augmenting_the_image_first(seed: int) -> None:
    """Composing the affine with theta cuts what a crop of the resampled image would show."""
    config = AugmentConfig(copies=5, noise_std=0.0, mirror=0.5)
    width, height = 120, 90
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    smooth = torch.stack([(x / 17).sin(), (y / 13).cos(), (x * y / 900).sin()])[None].float()
    draws = [[seed]]
    drawn = draw(config, PAPER9, [(width, height)], [4], draws)
    sizes, affine = size(width, height)[None], drawn.affine

    # Augment first: the whole frame resampled, on a square grid of its larger side.
    side = 360
    frame = crop(smooth, theta_from_windows(whole_image(sizes), sizes, affine), side)[:, 0]
    wanted = window(70.5, 41.5, 31, 31)
    first = crop(frame, theta_from_windows(wanted, sizes), 31)

    composed = crop(smooth, theta_from_windows(wanted, sizes, affine), 31)
    inside = crop(torch.ones_like(smooth), theta_from_windows(wanted, sizes, affine), 31) > 0.999
    assert (composed - first)[inside].abs().max() < 0.02
    assert inside.float().mean() > 0.5


def test_canvas_does_not_change_a_crop() -> None:
    image = image_of(60, 50).float()
    canvas = torch.zeros(1, 3, 100, 130)
    canvas[:, :, :60, :50] = image
    wanted = window(45.0, 50.0, 25, 25)  # reaches beyond the image
    alone = crop(image, theta_from_windows(wanted, size(50, 60)), 25)
    on_canvas = crop(canvas, theta_from_windows(wanted, size(130, 100)), 25)
    torch.testing.assert_close(alone, on_canvas, atol=1e-2, rtol=0)


def test_crop_gradient_to_theta() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 2, 12, 14, generator=generator, dtype=torch.float64)
    windows = torch.tensor([[[6.3, 5.2, 4.1, 3.7]]], dtype=torch.float64, requires_grad=True)
    full = torch.tensor([14.0, 12.0], dtype=torch.float64)

    def cut(w: torch.Tensor) -> torch.Tensor:
        return crop(image, theta_from_windows(w, full), 5)

    assert torch.autograd.gradcheck(cut, (windows,), eps=1e-5)


def test_reduction_is_twice_the_coarse_size_and_antialiased() -> None:
    stripes = torch.zeros(3, 512, 512, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    reduced = reduce_images(stripes[None], 64)
    assert reduced.shape == (1, 3, 128, 128)
    assert bool(((reduced[..., 2:-2] > 110) & (reduced[..., 2:-2] < 145)).all())


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"theta must be \[N, P, 2, 3\], got \[2, 3\]"):
        crop(torch.zeros(1, 3, 8, 8), torch.zeros(2, 3), 5)
    with pytest.raises(ValueError, match=r"windows must be \[N, P, 4\], got \[1, 4\]"):
        theta_from_windows(torch.zeros(1, 4), size(8, 8))


def test_a_similarity_is_fitted_to_points_that_it_moved() -> None:
    """By hand: a quarter turn clockwise as seen, twice the size, then 10 to the right and 5 up."""
    source = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    target = torch.tensor([[10.0, -5.0], [10.0, -3.0], [4.0, -5.0]])
    affine, residual = fit_similarity(source, target)
    torch.testing.assert_close(affine, torch.tensor([[0.0, -2.0, 10.0], [2.0, 0.0, -5.0]]))
    assert residual == pytest.approx(0, abs=1e-5)


def test_a_fit_does_not_mirror_and_says_how_far_it_is_off() -> None:
    """Corners of a square that change sides by their mirror image: no similarity but the centre."""
    source = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    mirrored = source * torch.tensor([-1.0, 1.0])
    affine, residual = fit_similarity(source, mirrored)
    torch.testing.assert_close(affine, torch.zeros(2, 3))
    assert residual == pytest.approx(2**0.5)


def test_points_without_weight_do_not_count_and_fits_are_made_of_many_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(5, 2, generator=generator)
    true = torch.tensor([[[1.5, 0.5, 3.0], [-0.5, 1.5, 7.0]], [[0.2, -0.1, 0.0], [0.1, 0.2, 1.0]]])
    target = apply_affine(true, source.expand(2, 5, 2)).clone()
    target[0, 3] += 100
    weights = torch.tensor([[2.0, 1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0, 5.0]])
    affine, residual = fit_similarity(source, target, weights)
    torch.testing.assert_close(affine, true, atol=1e-5, rtol=0)
    assert (residual < 1e-5).all()
    assert fit_similarity(source, target)[1][0] > 10


def test_points_in_one_place_are_mapped_to_their_targets_mean() -> None:
    affine, residual = fit_similarity(torch.ones(2, 2), torch.tensor([[0.0, 4.0], [6.0, 4.0]]))
    torch.testing.assert_close(affine @ torch.tensor([1.0, 1.0, 1.0]), torch.tensor([3.0, 4.0]))
    assert residual == pytest.approx(3)


def test_points_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[5, 2\] and \[4, 2\]"):
        fit_similarity(torch.zeros(5, 2), torch.zeros(4, 2))
