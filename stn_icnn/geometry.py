"""Windows, theta, crop and paste: pure functions of tensors, always in float32.

Convention (of the whole package):
    Points and windows are in pixels, (x, y) order, with pixel centres at +0.5: the image's left
    edge is 0, its right edge W. A window is `(x, y, w, h)`: centre, width, height. An `affine`
    `[2, 3]` maps pixels of the augmented frame to pixels of the image as stored. Theta maps a
    patch's normalised coordinates to those of the map that is sampled, `align_corners=False`:
    -1 and 1 are the outer edges. What lies outside is 0.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def apply_affine(affine: Tensor, points: Tensor) -> Tensor:
    """Maps points, `[N, P, 2]`, by each image's affine, `[N, 2, 3]`."""
    return points @ affine[:, :, :2].mT + affine[:, None, :, 2]


def invert_affine(affine: Tensor) -> Tensor:
    """Inverts affines, `[N, 2, 3]`."""
    linear = torch.linalg.inv(affine[:, :, :2])
    return torch.cat([linear, -linear @ affine[:, :, 2:]], dim=2)


def fit_similarity(
    source: Tensor, target: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Fits the similarity that maps points nearest to others, by weighted least squares.

    A similarity shifts, turns and scales; it does not mirror. The closed form is Umeyama's (1991)
    in the plane, where a turn and a scale are one complex factor.

    Convention: source to target, (x, y) order; a positive turn is clockwise as seen, as y points
    down.

    Args:
        source: `[P, 2]` or `[..., P, 2]` float32, two points or more.
        target: `[..., P, 2]` float32, where they should come to lie.
        weights: `[P]` or `[..., P]` float32, not negative, how much each point counts; all alike if
            None.

    Returns:
        The affine, `[..., 2, 3]` float32, and the residual, `[...]` float32: the root of the
        weighted mean squared distance that is left, in units of the target. Points that all lie in
        one place are mapped to the mean of their targets.
    """
    if source.shape[-2:] != target.shape[-2:] or target.dim() < 2 or target.shape[-1] != 2:
        shapes = f"{list(source.shape)} and {list(target.shape)}"
        raise ValueError(f"source must be [P, 2] and target [..., P, 2], got {shapes}")
    if weights is None:
        weights = target.new_ones(target.shape[-2])
    source = source.expand_as(target)
    share = (weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)).expand(target.shape[:-1])
    share = share[..., None]
    source_mean, target_mean = ((share * points).sum(-2) for points in (source, target))
    x, y = (source - source_mean[..., None, :]).unbind(-1)
    u, v = (target - target_mean[..., None, :]).unbind(-1)
    share = share[..., 0]
    spread = (share * (x * x + y * y)).sum(-1).clamp(min=1e-12)
    cosine = (share * (x * u + y * v)).sum(-1) / spread
    sine = (share * (x * v - y * u)).sum(-1) / spread
    linear = torch.stack(
        [torch.stack([cosine, -sine], dim=-1), torch.stack([sine, cosine], dim=-1)], dim=-2
    )
    offset = target_mean - (linear @ source_mean[..., None])[..., 0]
    left = target - (source @ linear.mT + offset[..., None, :])
    residual = (share * left.square().sum(-1)).sum(-1).sqrt()
    return torch.cat([linear, offset[..., None]], dim=-1), residual


def whole_image(sizes: Tensor) -> Tensor:
    """Returns the window that holds each whole image, `[N, 1, 4]`, from sizes, `[N, 2]` (W, H)."""
    return torch.cat([sizes / 2, sizes], dim=1)[:, None]


def theta_from_windows(windows: Tensor, size: Tensor, affine: Tensor | None = None) -> Tensor:
    """Computes the theta that cuts windows out of a map (paper equation 14).

    Without `affine`, `[[w/W, 0, 2x/W - 1], [0, h/H, 2y/H - 1]]`.

    Convention: patch to map, normalised, (x, y) order, `align_corners=False`.

    Args:
        windows: `[N, P, 4]` float32, px of the (augmented) frame.
        size: `[N, 2]` or `[2]` (W, H) of the map that will be sampled, px: the image's own for a
            copy of it at any scale, the canvas' for a canvas.
        affine: `[N, 2, 3]` frame to stored image, px; the identity if None.

    Returns:
        `[N, P, 2, 3]` float32.
    """
    if windows.dim() != 3 or windows.shape[-1] != 4:
        raise ValueError(f"windows must be [N, P, 4], got {list(windows.shape)}")
    linear = torch.diag_embed(windows[..., 2:] / 2)
    offset = windows[..., :2]
    if affine is not None:
        linear = affine[:, None, :, :2] @ linear
        offset = apply_affine(affine, offset)
    half = (size.to(windows.dtype) / 2).expand(windows.shape[0], 2)[:, None]
    return torch.cat([linear / half[..., None], (offset / half - 1)[..., None]], dim=-1)


def _grid(theta: Tensor, px: int) -> Tensor:
    """Returns the normalised sampling positions of theta `[N, P, 2, 3]`, `[N, P * px, px, 2]`."""
    if theta.dim() != 4 or theta.shape[-2:] != (2, 3):
        raise ValueError(f"theta must be [N, P, 2, 3], got {list(theta.shape)}")
    num, parts = theta.shape[:2]
    grid = F.affine_grid(theta.flatten(0, 1), [num * parts, 1, px, px], align_corners=False)
    return grid.view(num, parts * px, px, 2)


def crop(image: Tensor, theta: Tensor, px: int) -> Tensor:
    """Cuts patches out of images, bilinear (paper equation 3).

    Convention: theta as `theta_from_windows` makes it for this map's size; 0 outside.

    Args:
        image: `[N, C, H, W]` float32.
        theta: `[N, P, 2, 3]` float32; the gradient flows to it.
        px: side of the patches.

    Returns:
        `[N, P, C, px, px]` float32. Where `px` is odd and equal to the window's side and the
        window's centre lies on a pixel's centre, whole pixels are sampled: integer slicing.
    """
    patches = F.grid_sample(
        image, _grid(theta, px), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    num, channels = image.shape[:2]
    return patches.view(num, channels, theta.shape[1], px, px).transpose(1, 2)


def crop_labels(labels: Tensor, theta: Tensor, px: int) -> Tensor:
    """Cuts patches out of label maps, nearest neighbour; no gradient.

    Convention: as `crop`; 0, background, outside.

    Args:
        labels: `[N, H, W]` uint8.
        theta: `[N, P, 2, 3]` float32.
        px: side of the patches.

    Returns:
        `[N, P, px, px]` uint8.
    """
    num, height, width = labels.shape
    grid = _grid(theta.detach(), px)
    x = ((grid[..., 0] + 1) * (width / 2)).floor().long()
    y = ((grid[..., 1] + 1) * (height / 2)).floor().long()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    at = y.clamp_(0, height - 1) * width + x.clamp_(0, width - 1)
    found = labels.flatten(1).gather(1, at.flatten(1)).view_as(at)
    return (found * inside).view(num, theta.shape[1], px, px)


def reduce_images(images: Tensor, coarse_px: int) -> Tensor:
    """Reduces images to the antialiased copies that the coarse input is sampled from.

    A copy has twice `coarse_px`: sampling it bilinearly at `coarse_px` averages 2 x 2 pixels, and
    an augmentation's affine is composed with the squaring, so that no full image is resampled.

    Args:
        images: `[N, 3, H, W]` uint8.
        coarse_px: side of the coarse input.

    Returns:
        `[N, 3, 2 * coarse_px, 2 * coarse_px]` uint8; the aspect is not kept (paper 2.1,
        "squaredly").
    """
    side = 2 * coarse_px
    if images.is_cuda:  # which antialiases floats only
        images = images.float()
    out = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    return out if out.dtype == torch.uint8 else out.round().to(torch.uint8)


def pixels_inside(centre: float, side: float, limit: int) -> tuple[int, int]:
    """Returns the pixels of an axis whose centres lie in a window: the first, one past the last."""
    first = -int(-(centre - side / 2 - 0.5) // 1)
    last = int((centre + side / 2 - 0.5) // 1)
    return max(0, first), max(0, first, min(limit, last + 1))


def interpolation(
    first: int, stop: int, centre: float | Tensor, side: float | Tensor, patch: Tensor
) -> Tensor:
    """Computes the weight of each of a patch's pixels in each pixel of an axis, bilinear.

    Convention: as `paste`; beyond the window, as at its edge.

    Args:
        first: the first pixel of the axis.
        stop: one past its last.
        centre: the window's centre, px along the axis; a number, or `[N, 1]` float32 for N windows.
        side: the window's side, px, likewise.
        patch: `[..., px]`; its side and its device are used.

    Returns:
        `[stop - first, px]` float32, or `[N, stop - first, px]`.
    """
    px = patch.shape[-1]
    at = torch.arange(first, stop, device=patch.device) + (0.5 - centre + side / 2)
    at = (at * (px / side) - 0.5).clamp(0, px - 1)
    return (1 - (at[..., None] - torch.arange(px, device=patch.device)).abs()).clamp(min=0)


def paste(
    patch: Tensor, window: Sequence[float], width: int, height: int
) -> tuple[Tensor, slice, slice]:
    """Pastes a patch where its window lies (paper equation 5), bilinear.

    Convention: the inverse of `crop` for the same window, on the pixels inside it only; at most
    half a patch pixel is extrapolated, with the border's value.

    Args:
        patch: `[C, px, px]` float32.
        window: (x, y, w, h), px of the image pasted into.
        width: the image's width, px.
        height: the image's height, px.

    Returns:
        `[C, h, w]` float32 and the rows and columns of the image that it covers (perhaps none).
    """
    rows, columns = pixels_of_window(window, 0.0, width, height)
    wide = widen(patch, window, columns)
    return paste_rows(wide, window, rows), rows, columns


def pixels_of_window(
    window: Sequence[float], roll_deg: float, width: int, height: int
) -> tuple[slice, slice]:
    """Returns the rows and columns of an image that a window covers, turned about its centre.

    Args:
        window: (x, y, w, h), px of the image.
        roll_deg: the turn, clockwise as seen, degrees.
        width: the image's width, px.
        height: the image's height, px.
    """
    x, y, w, h = window
    cosine, sine = math.cos(math.radians(roll_deg)), math.sin(math.radians(roll_deg))
    across, down = abs(w * cosine) + abs(h * sine), abs(w * sine) + abs(h * cosine)
    return slice(*pixels_inside(y, down, height)), slice(*pixels_inside(x, across, width))


def widen(patch: Tensor, window: Sequence[float], columns: slice) -> Tensor:
    """Stretches a patch, `[C, px, px]` float32, to an image's columns, `[C, px, w]`, bilinear.

    Args:
        patch: the patch.
        window: (x, y, w, h), px of the image pasted into.
        columns: those of the image.
    """
    return patch @ interpolation(columns.start, columns.stop, window[0], window[2], patch).mT


def paste_rows(wide: Tensor, window: Sequence[float], rows: slice) -> Tensor:
    """Pastes some rows of a patch that `widen` has stretched, bilinear.

    Args:
        wide: `[C, px, w]` float32.
        window: (x, y, w, h), px of the image pasted into.
        rows: those of the image.

    Returns:
        `[C, h, w]` float32.
    """
    _, y, _, h = window
    px = wide.shape[1]
    at = torch.arange(rows.start, rows.stop, device=wide.device) + (0.5 - y + h / 2)
    at = (at * (px / h) - 0.5).clamp(0, px - 1)
    above = at.long()
    below = (above + 1).clamp(max=px - 1)
    share = (at - above)[:, None]
    return torch.lerp(wide.index_select(1, above), wide.index_select(1, below), share)


def paste_turned(
    patch: Tensor, window: Sequence[float], roll_deg: float, rows: slice, columns: slice
) -> Tensor:
    """Pastes a patch where its turned window lies, bilinear.

    Convention: as `paste`, which it equals without a turn; the window is turned clockwise as seen,
    about its centre.

    Args:
        patch: `[C, px, px]` float32.
        window: (x, y, w, h), px of the image pasted into.
        roll_deg: the turn, degrees.
        rows: the image's rows that are wanted.
        columns: its columns that are wanted.

    Returns:
        `[C, h, w]` float32, 0 beside the window.
    """
    x, y, w, h = window
    cosine, sine = math.cos(math.radians(roll_deg)), math.sin(math.radians(roll_deg))
    grid = patch.new_empty(1, rows.stop - rows.start, columns.stop - columns.start, 2)
    if not grid.numel():
        return patch.new_empty(len(patch), *grid.shape[1:3])
    across = torch.arange(columns.start, columns.stop, device=patch.device) + (0.5 - x)
    down = (torch.arange(rows.start, rows.stop, device=patch.device) + (0.5 - y))[:, None]
    u, v = grid[0].unbind(dim=-1)
    torch.add(across * (2 * cosine / w), down * (2 * sine / w), out=u)
    torch.add(across * (-2 * sine / h), down * (2 * cosine / h), out=v)
    pasted = F.grid_sample(patch[None], grid, padding_mode="border", align_corners=False)[0]
    pasted *= ((u.abs() <= 1) & (v.abs() <= 1)).float()  # to multiply by is quicker than to fill
    return pasted
