"""Scenes: photographs as people take them, made on the fly of a data set's faces.

A scene is a square picture with none to three faces of any size, turned by any angle, in any
light, before a background that is drawn at random or taken from where the data set's own
photographs show no face. The finder is trained on scenes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.labels import LabelSet
from stn_icnn.networks.finder import CELL_PX

NUM_FACES: Final = (0.13, 0.62, 0.17, 0.08)
"""Probabilities of no face, one, two and three in a scene."""

LEAST_SHARE: Final = 0.15
MOST_SHARE: Final = 1.7
"""The range of a face's square, as a share of the scene's side."""

WHOLE_PHOTO: Final = 0.4
"""Probability that a scene of one face shows that face's own photograph, moved, and no other
background than what is beyond its border."""

MIDDLE: Final = (0.5, 0.58)
"""The middle of a face's inner parts, as shares of its frame."""

CORE_RADIUS: Final = 0.22
"""Radius of the disc about it whose cells are to say that they lie in a face, as a share of the
frame's side."""

VOTING_RADIUS: Final = 0.32
"""Radius of the disc whose cells learn to vote."""


@dataclass(frozen=True)
class Scenes:
    """N scenes of S px, with M faces in all of them."""

    images: Tensor
    """`[N, 3, S, S]` float32 in [0, 1]."""
    labels: Tensor
    """`[N, S / 2, S / 2]` uint8, class ids of the cells."""
    owner: Tensor
    """`[N, S / 2, S / 2]` int64, the index of the face that covers a cell; -1 where none does."""
    centres: Tensor
    """`[M, P, 2]` float32, the centres of the parts of each face, px of its scene."""
    present: Tensor
    """`[M, P]` bool, whether a face has each part."""
    scene: Tensor
    """`[M]` int64, the scene of each face."""


Rng = np.random.Generator


def compose(batch: Batch, label_set: LabelSet, px: int, seeds: Sequence[int]) -> Scenes:
    """Makes a scene of each face of a batch, with further faces of the same batch in some.

    Args:
        batch: faces with label maps and centres, not augmented.
        label_set: their classes and parts.
        px: side of the scenes.
        seeds: one of each scene, which alone decides about it.
    """
    levels = _Pyramid(batch.images)
    swapped_class = torch.tensor(label_set.mirrored_class, dtype=torch.uint8, device=batch.images.device)
    swapped_part = list(label_set.mirrored_part)
    images, labels, owners, centres, presents, scene_of = [], [], [], [], [], []
    for i, seed in enumerate(seeds):
        rng = np.random.default_rng([2026, seed])
        count = int(rng.choice(len(NUM_FACES), p=NUM_FACES))
        whole = count == 1 and rng.random() < WHOLE_PHOTO
        others = (i + 1 + rng.permutation(len(batch) - 1)) % len(batch) if len(batch) > 1 else []
        faces = [i, *(int(j) for j in others)][:count]
        image = background(rng, levels, (i + len(batch) // 2) % len(batch), batch, px)
        label = torch.zeros(px // CELL_PX, px // CELL_PX, dtype=torch.uint8, device=image.device)
        owner = torch.full(label.shape, -1, dtype=torch.int64, device=image.device)
        for j in faces:
            pose = _pose(rng, whole, count, px, batch.host_sizes[j])
            mirrored = rng.random() < 0.5
            if mirrored:
                pose = pose @ np.array([[-1.0, 0, batch.host_sizes[j][0]], [0, 1, 0], [0, 0, 1]])
            mask = _mask(rng, batch.host_sizes[j], whole, image.device)
            box = _bounds(pose, batch.host_sizes[j], px)
            if box[0] < box[2] and box[1] < box[3]:
                here = np.s_[..., box[1] : box[3], box[0] : box[2]]
                pixels, alpha = _warp(levels, j, mask, pose, batch, box)
                image[here] += alpha * (pixels - image[here])
                own = _warp_labels(batch, j, pose, box)
                covered = alpha[0, ::CELL_PX, ::CELL_PX] > 0.5
                if mirrored:
                    own = swapped_class[own.long()]
                cells = np.s_[box[1] // CELL_PX : box[3] // CELL_PX, box[0] // CELL_PX : box[2] // CELL_PX]
                label[cells] = torch.where(covered, own, label[cells])
                owner[cells] = torch.where(covered, len(centres), owner[cells])
            assert batch.centres is not None and batch.present is not None
            matrix = torch.from_numpy(pose.astype(np.float32)).to(image.device)
            moved = batch.centres[j] @ matrix[:2, :2].T + matrix[:2, 2]
            there = batch.present[j]
            if mirrored:
                moved, there = moved[swapped_part], there[swapped_part]
            centres.append(moved)
            presents.append(there)
            scene_of.append(i)
        images.append(_expose(rng, image))
        labels.append(label)
        owners.append(owner)
    num_parts = label_set.num_parts
    device = batch.images.device
    return Scenes(
        torch.stack(images),
        torch.stack(labels),
        torch.stack(owners),
        torch.stack(centres) if centres else torch.zeros(0, num_parts, 2, device=device),
        torch.stack(presents) if presents else torch.zeros(0, num_parts, dtype=torch.bool, device=device),
        torch.tensor(scene_of, dtype=torch.int64, device=device),
    )


class _Pyramid:
    """The images of a batch at full, half, quarter, ... size, made as they are asked for."""

    def __init__(self, images: Tensor) -> None:
        self.device = images.device
        self._images = images
        half = F.interpolate(
            images, (images.shape[2] // 2, images.shape[3] // 2), mode="bilinear", antialias=True
        )
        self._levels = [half.float() / 255]
        while min(self._levels[-1].shape[-2:]) >= 48:
            self._levels.append(F.avg_pool2d(self._levels[-1], 2))

    def image(self, i: int, level: int, size: tuple[int, int]) -> Tensor:
        """Returns an image of W x H px, reduced by 2^level at the most, `[1, 3, h, w]` float32."""
        level = min(level, len(self._levels))
        if level == 0:
            return self._images[i : i + 1, :, : size[1], : size[0]].float() / 255
        width, height = (max(1, side >> level) for side in size)
        return self._levels[level - 1][i : i + 1, :, :height, :width]


def _bounds(pose: NDArray[Any], size: tuple[int, int], px: int) -> tuple[int, int, int, int]:
    """Returns the part of the scene that an image covers, in whole cells: x0, y0, x1, y1, px."""
    corners = np.array([[0, 0, 1], [size[0], 0, 1], [0, size[1], 1], [*size, 1]]) @ pose[:2].T
    low = np.floor(corners.min(axis=0) / CELL_PX).clip(0, px // CELL_PX).astype(int) * CELL_PX
    high = np.ceil(corners.max(axis=0) / CELL_PX).clip(0, px // CELL_PX).astype(int) * CELL_PX
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _pose(rng: Rng, whole: bool, count: int, px: int, size: tuple[int, int]) -> NDArray[Any]:
    """Draws where a face lies: a map from pixels of its image to those of the scene, `[3, 3]`."""
    if whole:
        share = math.exp(rng.uniform(math.log(0.75), math.log(MOST_SHARE)))
        if rng.random() < 0.3:
            share = rng.uniform(0.95, 1.1)
    elif count == 1:
        share = math.exp(rng.uniform(math.log(LEAST_SHARE), math.log(1.1)))
    else:
        share = math.exp(rng.uniform(math.log(LEAST_SHARE), math.log(0.75)))
    kind = rng.random()
    if kind < 0.5:
        angle = math.radians(rng.normal(0, 12))
    elif kind < 0.75:
        angle = math.radians(rng.uniform(-60, 60))
    else:
        angle = rng.uniform(-math.pi, math.pi)
    side = share * px
    scale = side / max(size)
    reach = max(0.5 - 0.25 * share, 0.06) if not whole else max(0.2, 0.5 * share - 0.25)
    if whole and rng.random() < 0.35:
        reach = 0.03
    if whole:
        at = px / 2 + rng.uniform(-1, 1, 2) * min(reach, 0.26) * px
    else:
        at = px / 2 + rng.uniform(-1, 1, 2) * reach * px
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    # The middle of the inner parts comes to `at`, not the image's centre.
    middle = np.array([size[0] * MIDDLE[0], size[1] * (MIDDLE[1] if not whole or share > 1.2 else 0.5)])
    linear = np.array([[cos, -sin], [sin, cos]])
    offset = at - linear @ middle
    return np.array([[*linear[0], offset[0]], [*linear[1], offset[1]], [0, 0, 1]])


def _mask(rng: Rng, size: tuple[int, int], whole: bool, device: torch.device) -> Tensor:
    """Draws how much of a face's photograph shows in the scene, `[1, 64, 64]` float32."""
    at = (torch.arange(64, device=device) + 0.5) / 64 - 0.5
    x, y = at[None, :], at[:, None]
    kind = rng.random()
    if whole or kind < 0.15:
        return torch.ones(1, 64, 64, device=device)
    if kind < 0.45:  # a box, perhaps close about the inner parts
        top, bottom = rng.uniform(0.2, 0.5), rng.uniform(0.38, 0.5)
        left, right = rng.uniform(0.3, 0.5), rng.uniform(0.3, 0.5)
        inside = torch.minimum(
            torch.minimum(y + top, bottom - y), torch.minimum(x + left, right - x)
        )
    else:
        power = rng.uniform(2, 5)
        rx, ry = rng.uniform(0.33, 0.5), rng.uniform(0.4, 0.58)
        down = rng.uniform(0, 0.06)
        radius = ((x / rx).abs() ** power + ((y - down) / ry).abs() ** power) ** (1 / power)
        inside = (1 - radius) * min(rx, ry)
    feather = rng.choice([0.01, 0.03, 0.08])
    return (inside / feather + 0.5).clamp(0, 1)[None].float()


Box = tuple[int, int, int, int]
"""A part of a scene: x0, y0, x1, y1, px."""


def _warp(
    levels: _Pyramid, i: int, mask: Tensor, pose: NDArray[Any], batch: Batch, box: Box
) -> tuple[Tensor, Tensor]:
    """Returns a face as the scene shows it, `[3, h, w]`, and how much it covers, `[1, h, w]`."""
    scale = math.hypot(pose[0, 0], pose[1, 0])
    level = max(0, int(math.log2(max(1.0, 1 / scale)) + 0.3))
    image = levels.image(i, level, batch.host_sizes[i])
    grid = _grid(pose, batch.host_sizes[i], box, 1, image.device)
    pixels = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    alpha = F.grid_sample(mask[None], grid, mode="bilinear", align_corners=False)
    return pixels[0], alpha[0]


def _grid(
    pose: NDArray[Any], size: tuple[int, int], box: Box, step: int, device: torch.device
) -> Tensor:
    """Returns where an image is sampled for a box of the scene, `[1, h, w, 2]`, normalised."""
    width, height = box[2] - box[0], box[3] - box[1]
    to_px = np.array(
        [[width / 2, 0, box[0] + width / 2], [0, height / 2, box[1] + height / 2], [0, 0, 1]]
    )
    to_unit = np.array([[2 / size[0], 0, -1], [0, 2 / size[1], -1], [0, 0, 1]])
    theta = (to_unit @ np.linalg.inv(pose) @ to_px)[:2].astype(np.float32)
    shape = [1, 1, height // step, width // step]
    return F.affine_grid(torch.from_numpy(theta)[None].to(device), shape, align_corners=False)


def _warp_labels(batch: Batch, i: int, pose: NDArray[Any], box: Box) -> Tensor:
    """Returns a face's labels at the centres of a box's cells, `[h, w]` uint8."""
    assert batch.labels is not None
    width, height = batch.host_sizes[i]
    labels = batch.labels[i : i + 1, None, :height, :width].float()
    grid = _grid(pose, (width, height), box, CELL_PX, labels.device)
    return F.grid_sample(labels, grid, mode="nearest", align_corners=False)[0, 0].to(torch.uint8)


def background(rng: Rng, levels: _Pyramid, i: int, batch: Batch, px: int) -> Tensor:
    """Draws a background, `[3, px, px]` float32 in [0, 1]."""
    device = levels.device
    kind = rng.random()
    if kind < 0.12:
        return _flat(rng, px, device)
    if kind < 0.37:
        return _noise(rng, px, device)
    if kind < 0.6:
        return _margin(rng, levels, i, batch, px)
    if kind < 0.75:
        return _pattern(rng, px, device)
    image = _noise(rng, px, device)
    for _ in range(int(rng.integers(2, 14))):  # patchwork
        w, h = (int(v) for v in np.exp(rng.uniform(math.log(px * 0.06), math.log(px * 0.7), 2)))
        x, y = int(rng.integers(-w // 2, px)), int(rng.integers(-h // 2, px))
        fill = rng.random()
        if fill < 0.35:
            patch = _margin(rng, levels, i, batch, px)
        elif fill < 0.6:
            patch = _pattern(rng, px, device)
        elif fill < 0.8:
            patch = _noise(rng, px, device)
        else:
            patch = _flat(rng, px, device)
        rows = slice(max(0, y), min(px, y + h))
        columns = slice(max(0, x), min(px, x + w))
        image[:, rows, columns] = patch[:, rows, columns]
    return image


def _flat(rng: Rng, px: int, device: torch.device) -> Tensor:
    """Draws one colour, black at times."""
    colour = rng.random((3, 1, 1)) * (rng.random() < 0.8)
    return torch.from_numpy(colour.astype(np.float32)).to(device).repeat(1, px, px)


def _noise(rng: Rng, px: int, device: torch.device) -> Tensor:
    """Draws clouds: noise whose strength falls with its frequency, in few colours."""
    slope = rng.uniform(0.3, 1.3)
    total = torch.zeros(1, 3, px, px, device=device)
    grey = rng.uniform(0, 1)
    for octave in range(1, int(math.log2(px)) + 1):
        cells = 2**octave
        shape = (1, 3, max(1, int(cells * rng.uniform(0.5, 1))), max(1, int(cells * rng.uniform(0.5, 1))))
        drawn = rng.standard_normal(shape).astype(np.float32)
        drawn = grey * drawn[:, :1] + (1 - grey) * drawn
        grid = torch.from_numpy(drawn).to(device)
        mode = "nearest" if rng.random() < 0.15 else "bilinear"
        extra: dict[str, Any] = {} if mode == "nearest" else {"align_corners": False}
        total += F.interpolate(grid, size=(px, px), mode=mode, **extra) / cells**slope
    total = total[0]
    total = (total - total.mean()) / total.std().clamp(min=1e-6)
    mean = torch.from_numpy(rng.uniform(0.15, 0.85, (3, 1, 1)).astype(np.float32)).to(device)
    return (mean + rng.uniform(0.03, 0.35) * total).clamp(0, 1)


def _pattern(rng: Rng, px: int, device: torch.device) -> Tensor:
    """Draws waves, bars, checks or dots in two colours."""
    at = torch.arange(px, device=device).float()
    field = torch.zeros(px, px, device=device)
    for _ in range(int(rng.integers(1, 4))):
        angle, period = rng.uniform(0, math.pi), math.exp(rng.uniform(math.log(4), math.log(px)))
        along = math.cos(angle) * at[None, :] + math.sin(angle) * at[:, None]
        wave = torch.sin(2 * math.pi * along / period + rng.uniform(0, 6.3))
        field = field * wave if rng.random() < 0.4 and field.any() else field + wave
    sharpness = math.exp(rng.uniform(0, 3))
    share = torch.sigmoid(sharpness * (field - rng.uniform(-0.5, 0.9)))[None]
    first, second = (
        torch.from_numpy(rng.random((3, 1, 1)).astype(np.float32)).to(device) for _ in range(2)
    )
    return first + share * (second - first)


def _margin(rng: Rng, levels: _Pyramid, i: int, batch: Batch, px: int) -> Tensor:
    """Enlarges a piece of a photograph that holds no part of its face."""
    assert batch.labels is not None
    width, height = batch.host_sizes[i]
    inner = batch.labels[i, :height, :width]
    inner = (inner >= 2) & (inner <= 9)
    columns, rows = inner.any(dim=0).nonzero(), inner.any(dim=1).nonzero()
    if not len(columns):
        return _noise(rng, px, inner.device)
    x0, x1 = int(columns[0]), int(columns[-1])
    y0, y1 = int(rows[0]), int(rows[-1])
    borders = [(0, 0, x0, height), (x1, 0, width, height), (0, 0, width, y0), (0, y1, width, height)]
    borders = [b for b in borders if b[2] - b[0] >= 24 and b[3] - b[1] >= 24]
    if not borders:
        return _noise(rng, px, inner.device)
    left, top, right, bottom = borders[int(rng.integers(len(borders)))]
    w = int(rng.uniform(0.5, 1) * (right - left))
    h = int(rng.uniform(0.5, 1) * (bottom - top))
    x, y = int(rng.integers(left, right - w + 1)), int(rng.integers(top, bottom - h + 1))
    piece = levels.image(i, 0, (width, height))[:, :, y : y + h, x : x + w]
    if rng.random() < 0.5:
        piece = piece.flip(-1)
    turn = int(rng.integers(4))
    if rng.random() < 0.3:
        piece = torch.rot90(piece, turn, (2, 3))
    if rng.random() < 0.4:  # mirrored four times, so that its own scale is kept
        piece = torch.cat([piece, piece.flip(-1)], dim=-1)
        piece = torch.cat([piece, piece.flip(-2)], dim=-2)
    return F.interpolate(piece, size=(px, px), mode="bilinear", align_corners=False, antialias=True)[0].clamp(0, 1)


def _expose(rng: Rng, image: Tensor) -> Tensor:
    """Changes light, colour and sharpness, and adds noise."""
    if rng.random() < 0.25:
        factor = rng.uniform(0.15, 0.7)
        small = F.interpolate(image[None], scale_factor=factor, mode="bilinear", antialias=True)
        image = F.interpolate(small, size=image.shape[-2:], mode="bilinear")[0]
    if rng.random() < 0.2:
        grey = image.mean(dim=0, keepdim=True).expand(3, -1, -1)
        image = image + rng.uniform(0.5, 1) * (grey - image)
    if rng.random() < 0.5:
        tint = 1 + rng.uniform(-0.2, 0.2, (3, 1, 1)).astype(np.float32)
        image = image * torch.from_numpy(tint).to(image.device)
    if rng.random() < 0.6:
        image = image * math.exp(rng.uniform(math.log(0.18), math.log(2.2)))
    if rng.random() < 0.3:
        image = image.clamp(0, 1) ** math.exp(rng.uniform(-0.6, 0.6))
    if rng.random() < 0.3:
        generator = torch.Generator(image.device)
        generator.manual_seed(int(rng.integers(2**48)))
        noise = torch.randn(image.shape, generator=generator, device=image.device)
        image = image + rng.uniform(0.01, 0.06) * noise
    return image.clamp(0, 1)
