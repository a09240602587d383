"""Scenes: photographs as people take them, made of a data set's faces as they are needed.

A scene is a square picture with none to three faces of any size, turned by any angle, in any
light, before a background that is drawn or taken from where the data set's photographs show no
face. The finder is trained and its confidence is calibrated on scenes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stn_icnn.data.backgrounds import draw_background
from stn_icnn.data.batch import Batch
from stn_icnn.label_sets import FACE_MIDDLE
from stn_icnn.labels import LabelSet

NUM_FACES: Final = (0.13, 0.62, 0.17, 0.08)
"""Probabilities of no face, one, two and three in a scene."""

OWN_PHOTO: Final = 0.4
"""Probability that a scene of one face shows that face's photograph, moved and turned, with
nothing else but what is beyond its border."""

LEAST_SHARE: Final = 0.15
"""The least side of a face's photograph in a scene, as a share of the scene's."""

SEED: Final = 2026
"""Keeps the random numbers of scenes apart from those of augmentation."""

Matrix = NDArray[np.float64]
Box = tuple[int, int, int, int]
"""A part of a scene: x0, y0, x1, y1, px."""


@dataclass(frozen=True)
class Scenes:
    """N scenes of S px with M faces in all of them; labels are given for cells of c x c px."""

    images: Tensor
    """`[N, 3, S, S]` float32 in [0, 1]."""
    labels: Tensor
    """`[N, S / c, S / c]` uint8, class ids."""
    owner: Tensor
    """`[N, S / c, S / c]` int64, the index of the face whose photograph covers a cell, or -1."""
    centres: Tensor
    """`[M, P, 2]` float32, the centres of each face's parts, px of its scene."""
    present: Tensor
    """`[M, P]` bool, whether a face has each part."""
    scene: tuple[int, ...]
    """The scene of each of the M faces."""


@dataclass
class _Canvas:
    """A scene in the making, and the faces of all scenes so far."""

    image: Tensor
    labels: Tensor
    owner: Tensor

    @classmethod
    def on(cls, background: Tensor, cell_px: int) -> Self:
        """Begins with a background, `[3, S, S]` float32."""
        cells = background.shape[-1] // cell_px
        labels = torch.zeros(cells, cells, dtype=torch.uint8, device=background.device)
        return cls(background, labels, torch.full_like(labels, -1, dtype=torch.int64))


def compose_scenes(
    batch: Batch, label_set: LabelSet, px: int, seeds: Sequence[int], cell_px: int = 2
) -> Scenes:
    """Makes a scene of each face of a batch, with further faces of the batch in some.

    Args:
        batch: faces with label maps and centres; their augmentation is not applied.
        label_set: their classes and parts.
        px: side of the scenes, a multiple of `cell_px`.
        seeds: the seed of each scene.
        cell_px: side of the cells whose labels are given, px.
    """
    assert batch.labels is not None
    assert batch.centres is not None
    assert batch.present is not None
    device = batch.images.device
    pyramid = _Pyramid(batch)
    swapped_class = torch.tensor(label_set.mirrored_class, dtype=torch.uint8, device=device)
    canvases: list[_Canvas] = []
    centres: list[Tensor] = []
    present: list[Tensor] = []
    scene_of: list[int] = []
    for i, seed in enumerate(seeds):
        rng = np.random.default_rng([SEED, seed])
        number = int(rng.choice(len(NUM_FACES), p=NUM_FACES))
        is_own_photo = number == 1 and rng.random() < OWN_PHOTO
        others = (i + 1 + rng.permutation(max(0, len(batch) - 1))) % len(batch)
        behind = (i + len(batch) // 2) % len(batch)
        inner = torch.isin(pyramid.labels(behind), _tensor_of(label_set.inner_classes, device))
        background = draw_background(rng, pyramid.photo(behind), inner, px)
        canvas = _Canvas.on(background, cell_px)
        for j in (i, *others.tolist())[:number]:
            size = batch.host_sizes[j]
            pose = _draw_pose(rng, is_own_photo, number, px, size)
            mirrored = rng.random() < 0.5
            if mirrored:
                pose = pose @ np.array([[-1.0, 0.0, size[0]], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
            mask = _whole_mask(device) if is_own_photo else _draw_mask(rng, device)
            table = swapped_class if mirrored else None
            _place(canvas, len(centres), pyramid, j, pose, mask, table, cell_px)
            matrix = torch.from_numpy(pose.astype(np.float32)).to(device)
            moved = batch.centres[j] @ matrix[:2, :2].T + matrix[:2, 2]
            order = list(label_set.mirrored_part) if mirrored else slice(None)
            centres.append(moved[order])
            present.append(batch.present[j][order])
            scene_of.append(i)
        canvas.image = _expose(rng, canvas.image)
        canvases.append(canvas)
    none = torch.zeros(0, label_set.num_parts, 2, device=device)
    return Scenes(
        torch.stack([canvas.image for canvas in canvases]),
        torch.stack([canvas.labels for canvas in canvases]),
        torch.stack([canvas.owner for canvas in canvases]),
        torch.stack(centres) if centres else none,
        torch.stack(present) if present else none[..., 0].bool(),
        tuple(scene_of),
    )


def _tensor_of(numbers: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=torch.uint8, device=device)


class _Pyramid:
    """A batch's photographs at full, half, quarter, ... size, made as they are asked for."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        height, width = batch.images.shape[-2:]
        images = batch.images.float() if batch.images.is_cuda else batch.images
        half = F.interpolate(
            images, (max(1, height // 2), max(1, width // 2)), mode="bilinear", antialias=True
        )
        self._levels = [half.float() / 255]
        while min(self._levels[-1].shape[-2:]) >= 48:
            self._levels.append(F.avg_pool2d(self._levels[-1], 2))

    def size(self, i: int) -> tuple[int, int]:
        """Returns (W, H) of a photograph at full size."""
        return self._batch.host_sizes[i]

    def photo(self, i: int) -> Tensor:
        """Returns a photograph at full size, `[3, H, W]` uint8."""
        width, height = self.size(i)
        return self._batch.images[i, :, :height, :width]

    def labels(self, i: int) -> Tensor:
        """Returns its label map, `[H, W]` uint8."""
        assert self._batch.labels is not None
        width, height = self.size(i)
        return self._batch.labels[i, :height, :width]

    def reduced(self, i: int, scale: float) -> Tensor:
        """Returns a photograph to be sampled at a scale, `[1, 3, h, w]` float32 in [0, 1]."""
        level = int(math.log2(max(1.0, 1 / scale)) + 0.3)
        level = min(level, len(self._levels))
        if level == 0:
            return self.photo(i)[None].float() / 255
        width, height = (max(1, side >> level) for side in self.size(i))
        return self._levels[level - 1][i : i + 1, :, :height, :width]


def _draw_pose(
    rng: np.random.Generator, is_own_photo: bool, number: int, px: int, size: tuple[int, int]
) -> Matrix:
    """Draws where a face lies: the map from px of its photograph to px of the scene, `[3, 3]`.

    A photograph of its own is whole, moved or cropped to the inner parts; among others it is as
    likely small as large.
    """
    if is_own_photo:
        share = rng.uniform(0.95, 1.1) if rng.random() < 0.3 else _log_uniform(rng, 0.75, 1.7)
        reach = 0.03 if rng.random() < 0.35 else min(0.26, max(0.2, 0.5 * share - 0.25))
        middle = FACE_MIDDLE if share > 1.2 else (0.5, 0.5)
    else:
        share = _log_uniform(rng, LEAST_SHARE, 1.1 if number == 1 else 0.75)
        reach = max(0.06, 0.5 - 0.25 * share)
        middle = FACE_MIDDLE
    kind = rng.random()
    if kind < 0.55:
        degrees = rng.normal(0, 12)
    elif kind < 0.82:
        degrees = rng.uniform(-60, 60)
    else:
        degrees = 180 + rng.uniform(-100, 100)
    angle = math.radians(degrees)
    scale = share * px / max(size)
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    at = px * (0.5 + reach * rng.uniform(-1, 1, 2))
    pose = np.eye(3)
    pose[:2, :2], pose[:2, 2] = linear, at - linear @ (np.array(middle) * size)
    return pose


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _whole_mask(device: torch.device) -> Tensor:
    return torch.ones(1, 1, 2, 2, device=device)


def _draw_mask(rng: np.random.Generator, device: torch.device) -> Tensor:
    """Draws how much of a face's photograph a scene shows, `[1, 1, 64, 64]` float32 in [0, 1]."""
    at = (torch.arange(64, device=device) + 0.5) / 64 - 0.5
    x, y = at[None, :], at[:, None]
    kind = rng.random()
    if kind < 0.15:
        return _whole_mask(device)
    if kind < 0.45:  # a box, perhaps close about the inner parts
        top, left, right = rng.uniform(0.2, 0.5), *rng.uniform(0.3, 0.5, 2)
        bottom = rng.uniform(0.38, 0.5)
        across, down = torch.minimum(x + left, right - x), torch.minimum(y + top, bottom - y)
        inside = torch.minimum(across, down)
    else:
        power, half = rng.uniform(2, 5), (rng.uniform(0.33, 0.5), rng.uniform(0.4, 0.58))
        lower = rng.uniform(0, 0.06)
        ratio = (x / half[0]).abs() ** power + ((y - lower) / half[1]).abs() ** power
        inside = (1 - ratio ** (1 / power)) * min(half)
    feather = float(rng.choice([0.01, 0.03, 0.08]))
    return (inside / feather + 0.5).clamp(0, 1)[None, None]


def _place(
    canvas: _Canvas,
    face: int,
    pyramid: _Pyramid,
    i: int,
    pose: Matrix,
    mask: Tensor,
    swapped_class: Tensor | None,
    cell_px: int,
) -> None:
    """Pastes a face's photograph and labels into a scene."""
    size = pyramid.size(i)
    x0, y0, x1, y1 = box = _bounds(pose, size, canvas.image.shape[-1], cell_px)
    if x0 >= x1 or y0 >= y1:
        return
    photo = pyramid.reduced(i, math.hypot(*pose[:2, 0]))
    grid = _grid(pose, size, box, 1, photo.device)
    pixels = F.grid_sample(photo, grid, padding_mode="border", align_corners=False)[0]
    alpha = F.grid_sample(mask, grid, align_corners=False)[0]
    here = canvas.image[:, y0:y1, x0:x1]
    here += alpha * (pixels - here)
    cells = _grid(pose, size, box, cell_px, photo.device)
    labels = pyramid.labels(i)[None, None].float()
    own = F.grid_sample(labels, cells, mode="nearest", align_corners=False)[0, 0].to(torch.uint8)
    if swapped_class is not None:
        own = swapped_class[own.long()]
    shown = F.grid_sample(mask, cells, align_corners=False)[0, 0] > 0.5
    rows, columns = slice(y0 // cell_px, y1 // cell_px), slice(x0 // cell_px, x1 // cell_px)
    canvas.labels[rows, columns] = torch.where(shown, own, canvas.labels[rows, columns])
    canvas.owner[rows, columns].masked_fill_(shown, face)


def _bounds(pose: Matrix, size: tuple[int, int], px: int, cell_px: int) -> Box:
    """Returns the part of a scene that a photograph covers, in whole cells."""
    width, height = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]) @ pose[:2].T
    limit = px // cell_px
    low = np.floor(corners.min(axis=0) / cell_px).clip(0, limit).astype(int) * cell_px
    high = np.ceil(corners.max(axis=0) / cell_px).clip(0, limit).astype(int) * cell_px
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _grid(pose: Matrix, size: tuple[int, int], box: Box, step: int, device: torch.device) -> Tensor:
    """Returns where a photograph is sampled for a part of a scene, `[1, h, w, 2]`, normalised.

    Args:
        pose: the map from px of the photograph to px of the scene.
        size: (W, H) of the photograph, px.
        box: the part of the scene.
        step: px of the scene from one sample to the next.
        device: where the grid is to lie.
    """
    (x0, y0, x1, y1), (width, height) = box, size
    half_w, half_h = (x1 - x0) / 2, (y1 - y0) / 2
    to_scene = np.array([[half_w, 0, x0 + half_w], [0, half_h, y0 + half_h], [0, 0, 1]])
    to_unit = np.array([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])
    theta = (to_unit @ np.linalg.inv(pose) @ to_scene)[:2].astype(np.float32)
    shape = [1, 1, (y1 - y0) // step, (x1 - x0) // step]
    return F.affine_grid(torch.from_numpy(theta)[None].to(device), shape, align_corners=False)


def _expose(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Changes sharpness, colour and light of a scene, and adds noise."""
    if rng.random() < 0.25:
        sides = [max(8, round(side * rng.uniform(0.15, 0.7))) for side in image.shape[-2:]]
        small = F.interpolate(image[None], sides, mode="bilinear", antialias=True)
        image = F.interpolate(small, image.shape[-2:], mode="bilinear")[0]
    if rng.random() < 0.2:
        grey = image.mean(dim=0, keepdim=True)
        image = image + rng.uniform(0.5, 1) * (grey - image)
    if rng.random() < 0.5:
        tint = rng.uniform(0.8, 1.2, (3, 1, 1)).astype(np.float32)
        image = image * torch.from_numpy(tint).to(image.device)
    if rng.random() < 0.6:
        image = image * _log_uniform(rng, 0.18, 2.2)
    if rng.random() < 0.3:
        image = image.clamp(0, 1) ** math.exp(rng.uniform(-0.6, 0.6))
    if rng.random() < 0.3:
        generator = torch.Generator(image.device)
        generator.manual_seed(int(rng.integers(2**48)))
        noise = torch.randn(image.shape, generator=generator, device=image.device)
        image = image + rng.uniform(0.01, 0.06) * noise
    return image.clamp(0, 1)
