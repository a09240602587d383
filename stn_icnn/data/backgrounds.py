"""Backgrounds of scenes: drawn at random, or taken from where a photograph shows no face.

Each function takes the random generator of its scene first, and returns `[3, px, px]` float32 in
[0, 1].
"""

import math
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LEAST_BORDER: Final = 24
"""The least width of a photograph's border that is taken for a background, px."""


def draw_background(
    rng: np.random.Generator, photo: Tensor, inner: Tensor, px: int, *, may_be_patches: bool = True
) -> Tensor:
    """Draws a background of any kind.

    Args:
        rng: chooses the kind, and all about it.
        photo: `[3, H, W]` uint8, a photograph of a face whose border may be taken.
        inner: `[H, W]` bool, where it shows a part of the face.
        px: side of the background.
        may_be_patches: whether it may be patched together of others.
    """
    kind = rng.random() * (1.0 if may_be_patches else 0.75)
    if kind < 0.12:
        return _flat(rng, px, photo.device)
    if kind < 0.37:
        return _clouds(rng, px, photo.device)
    if kind < 0.60:
        return _border(rng, photo, inner, px)
    if kind < 0.75:
        return _waves(rng, px, photo.device)
    return _patches(rng, photo, inner, px)


def _patches(rng: np.random.Generator, photo: Tensor, inner: Tensor, px: int) -> Tensor:
    """Lays rectangles of some backgrounds over another."""
    image = _clouds(rng, px, photo.device)
    for _ in range(int(rng.integers(2, 14))):
        sides = np.exp(rng.uniform(math.log(px * 0.06), math.log(px * 0.7), 2)).astype(int)
        x, y = (int(rng.integers(-side // 2, px)) for side in sides)
        here = np.s_[:, max(0, y) : y + sides[1], max(0, x) : x + sides[0]]
        image[here] = draw_background(rng, photo, inner, px, may_be_patches=False)[here]
    return image


def _flat(rng: np.random.Generator, px: int, device: torch.device) -> Tensor:
    """Draws one colour, black at times."""
    colour = rng.random((3, 1, 1)) * (rng.random() < 0.8)
    return _tensor(colour, device).repeat(1, px, px)


def _clouds(rng: np.random.Generator, px: int, device: torch.device) -> Tensor:
    """Draws noise that is the weaker the finer, in few colours."""
    slope, grey = rng.uniform(0.3, 1.3), rng.random()
    total = torch.zeros(1, 3, px, px, device=device)
    for octave in range(1, int(math.log2(px)) + 1):
        cells = 2**octave
        height, width = (max(1, int(cells * rng.uniform(0.5, 1))) for _ in range(2))
        drawn = rng.standard_normal((1, 3, height, width))
        grid = _tensor(grey * drawn[:, :1] + (1 - grey) * drawn, device)
        mode = "nearest" if rng.random() < 0.15 else "bilinear"
        total += F.interpolate(grid, size=(px, px), mode=mode) / cells**slope
    noise = (total[0] - total.mean()) / total.std().clamp(min=1e-6)
    mean = _tensor(rng.uniform(0.15, 0.85, (3, 1, 1)), device)
    return (mean + rng.uniform(0.03, 0.35) * noise).clamp(0, 1)


def _waves(rng: np.random.Generator, px: int, device: torch.device) -> Tensor:
    """Draws waves, bars, checks or dots in two colours."""
    at = torch.arange(px, device=device).float()
    field = torch.zeros(px, px, device=device)
    for i in range(int(rng.integers(1, 4))):
        angle = rng.uniform(0, math.pi)
        period = math.exp(rng.uniform(math.log(4), math.log(px)))
        along = math.cos(angle) * at[None, :] + math.sin(angle) * at[:, None]
        wave = torch.sin(2 * math.pi * along / period + rng.uniform(0, 2 * math.pi))
        field = field * wave if i and rng.random() < 0.4 else field + wave
    sharpness = math.exp(rng.uniform(0, 3))
    share = torch.sigmoid(sharpness * (field - rng.uniform(-0.5, 0.9)))[None]
    first, second = (_tensor(rng.random((3, 1, 1)), device) for _ in range(2))
    return first + share * (second - first)


def _border(rng: np.random.Generator, photo: Tensor, inner: Tensor, px: int) -> Tensor:
    """Enlarges a piece of a photograph's border: hair, cloth, what is behind."""
    height, width = inner.shape
    columns, rows = inner.any(dim=0).nonzero(), inner.any(dim=1).nonzero()
    if not len(columns):
        return _clouds(rng, px, photo.device)
    x0, x1, y0, y1 = int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1
    borders = [
        (left, top, right, bottom)
        for left, top, right, bottom in (
            (0, 0, x0, height), (x1, 0, width, height), (0, 0, width, y0), (0, y1, width, height)
        )
        if min(right - left, bottom - top) >= LEAST_BORDER
    ]  # fmt: skip
    if not borders:
        return _clouds(rng, px, photo.device)
    left, top, right, bottom = borders[int(rng.integers(len(borders)))]
    w, h = int(rng.uniform(0.5, 1) * (right - left)), int(rng.uniform(0.5, 1) * (bottom - top))
    x, y = int(rng.integers(left, right - w + 1)), int(rng.integers(top, bottom - h + 1))
    piece = photo[None, :, y : y + h, x : x + w].float() / 255
    if rng.random() < 0.5:
        piece = piece.flip(-1)
    if rng.random() < 0.3:
        piece = torch.rot90(piece, int(rng.integers(1, 4)), (2, 3))
    if rng.random() < 0.4:  # beside its mirror images, so that it is not enlarged as much
        piece = torch.cat([piece, piece.flip(-1)], dim=-1)
        piece = torch.cat([piece, piece.flip(-2)], dim=-2)
    enlarged = F.interpolate(piece, size=(px, px), mode="bilinear", antialias=True)
    return enlarged[0].clamp(0, 1)


def _tensor(values: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)
