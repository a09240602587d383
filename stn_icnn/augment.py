"""The paper's augmentations (section 2.5.1), drawn a sample at a time from its own seed.

Geometry is one affine in pixels that the coarse grid and the windows are composed with, so that no
full-size image is resampled. Appearance (colour, noise) is applied to what has been sampled: the
coarse input and the patches; noise on the full image would be averaged away by their sampling.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_icnn.config import AugmentConfig
from stn_icnn.labels import MIRRORED_CLASS, NUM_PARTS

NUM_OPERATIONS = 4
GREY = np.tile([0.299, 0.587, 0.114], (3, 1))
"""RGB to luma, in each channel."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to each sample of a batch (leading `N`), or to one sample (without it)."""

    affine: Tensor
    """`[N, 2, 3]` float32: pixels of the augmented frame to pixels of the stored image."""
    mirrored: Tensor
    """`[N]` bool: whether `affine` mirrors, so that left and right classes change places."""
    colour: Tensor
    """`[N, 3, 4]` float32: RGB to RGB, and an offset."""
    noise_std: Tensor
    """`[N]` float32, as a share of full brightness."""
    noise_seed: Tensor
    """`[N]` int64: noise depends on the sample, not on its place in a batch."""
    window_jitter: Tensor
    """`[N, 6, 3]` float32: shift of the training windows in x and y as a share of their side, and
    log factor on it."""

    @classmethod
    def stack(cls, items: list[Self]) -> Self:
        """Samples to a batch."""
        return cls(*(torch.stack([getattr(i, f.name) for i in items]) for f in fields(cls)))

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A copy with a function applied to each tensor."""
        return type(self)(*(function(getattr(self, f.name)) for f in fields(self)))

    def appearance(self, sampled: Tensor, stream: int) -> Tensor:
        """Colour and noise on what was sampled.

        Args:
            sampled: `[N, P, 3, px, px]` float32 in [0, 1].
            stream: tells the noise of one sampling (coarse, each network's patches) from another's.

        Returns:
            The same shape, not clipped.
        """
        coloured = torch.einsum("nij,npjhw->npihw", self.colour[..., :3], sampled)
        coloured = coloured + self.colour[:, None, :, 3, None, None]
        for i in torch.nonzero(self.noise_std).flatten().tolist():
            generator = torch.Generator(sampled.device)
            generator.manual_seed(int(self.noise_seed[i]) + stream)
            noise = torch.randn(sampled.shape[1:], generator=generator, device=sampled.device)
            coloured[i] += self.noise_std[i] * noise
        return coloured

    def relabel(self, labels: Tensor) -> Tensor:
        """Exchanges left and right classes where mirrored: `[N, ...]` uint8, canonical ids."""
        table = torch.tensor(MIRRORED_CLASS, dtype=torch.uint8, device=labels.device)
        mirrored = self.mirrored.view(-1, *[1] * (labels.dim() - 1))
        return torch.where(mirrored, table[labels.long()], labels)


def _chosen(config: AugmentConfig, copy: int, rng: np.random.Generator) -> set[str]:
    """Which of the paper's operations a copy gets."""
    if not config.operations:
        return set()
    num = int(rng.integers(NUM_OPERATIONS + 1)) if config.copies == 1 else copy
    return set(rng.permutation(["rotate", "shift", "scale", "noise"])[:num].tolist())


def _affine(
    config: AugmentConfig,
    operations: set[str],
    mirrored: bool,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Frame to stored image, `[2, 3]` in px: undo shift, rotation, scale and mirror, in that order.

    Rotation and scale are about the image's centre.
    """
    angle = math.radians(rng.uniform(-config.rotation_deg, config.rotation_deg))
    shift = rng.uniform(-config.shift, config.shift, size=2) * size
    scale = rng.uniform(config.scale_min, config.scale_max)
    if "rotate" not in operations:
        angle = 0.0
    if "shift" not in operations:
        shift = np.zeros(2)
    if "scale" not in operations:
        scale = 1.0
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    affine = np.array([[cos, sin, 0.0], [-sin, cos, 0.0]])
    if mirrored:
        affine[0] *= -1
    centre = np.array(size) / 2
    affine[:, 2] = centre - affine[:, :2] @ (centre + shift)
    return affine


def _colour(strength: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random brightness, contrast, saturation and tint as one `[3, 4]` map of RGB."""
    brightness, contrast, saturation = rng.uniform(-strength, strength, size=3)
    tint = rng.uniform(-0.25 * strength, 0.25 * strength, size=3)
    colour = np.eye(3, 4)
    linear = colour[:, :3]
    linear += saturation * (linear - GREY)
    linear *= ((1 + contrast) * (1 + tint))[:, None]
    colour[:, 3] = 0.5 * (1 - linear.sum(axis=1)) + 0.5 * brightness
    return colour


def draw(
    config: AugmentConfig, size: tuple[int, int], copy: int, rng: np.random.Generator
) -> Augmentation:
    """Draws the augmentation of one sample.

    Args:
        config: ranges and probabilities.
        size: (W, H) of the stored image, px.
        copy: which of `config.copies` copies this is, 0 first.
        rng: seeded by the caller from (seed, epoch, sample, copy).
    """
    operations = _chosen(config, copy, rng)
    mirrored = bool(rng.random() < config.mirror)
    affine = _affine(config, operations, mirrored, size, rng)
    jitter = rng.standard_normal((NUM_PARTS, 3))
    jitter *= [config.window_shift, config.window_shift, config.window_scale]
    return Augmentation(
        affine=_float32(affine),
        mirrored=torch.tensor(mirrored),
        colour=_float32(_colour(config.colour, rng)),
        noise_std=torch.tensor(config.noise_std if "noise" in operations else 0.0),
        noise_seed=torch.tensor(int(rng.integers(2**48))),
        window_jitter=_float32(jitter),
    )


def _float32(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
