"""The paper's augmentations (section 2.5.1), drawn for each sample from a seed of its own.

Geometry is one affine in pixels that the coarse grid and the windows are composed with, so that no
full-size image is resampled. Appearance (colour, noise) is applied to what has been sampled: the
coarse input and the patches; noise on the full image would be averaged away by their sampling.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_icnn.config import AugmentConfig
from stn_icnn.labels import LabelSet

ROTATE, SHIFT, SCALE, NOISE = range(4)
NUM_OPERATIONS = 4
NUM_UNIFORM = 17
GREY = np.tile([0.299, 0.587, 0.114], (3, 1))
"""The matrix that maps RGB to luma in each channel."""


@dataclass(frozen=True)
class Augmentation:
    """The changes to each of a batch's N samples."""

    affine: Tensor
    """`[N, 2, 3]` float32: pixels of the augmented frame to pixels of the stored image."""
    mirrored: Tensor
    """`[N]` bool: whether `affine` mirrors, so that left and right ones change places."""
    exposure: Tensor
    """`[N]` float32: the factor on the light, before it is cut off at white."""
    colour: Tensor
    """`[N, 3, 4]` float32: RGB to RGB, and an offset."""
    noise_std: Tensor
    """`[N]` float32, as a share of full brightness."""
    noise_seed: Tensor
    """`[N]` int64: noise depends on the sample, not on its place in a batch."""
    window_jitter: Tensor
    """`[N, P, 3]` float32: shift of the P parts' training windows in x and y as a share of their
    side, and log factor on it."""
    label_set: LabelSet
    """The classes and parts of the samples."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Returns a copy with a function applied to each tensor."""
        changed: dict[str, Any] = {
            name: function(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)

    def appearance(self, sampled: Tensor, stream: int) -> Tensor:
        """Changes light and colours of what was sampled, and adds noise to it.

        Args:
            sampled: `[N, P, 3, px, px]` float32 in [0, 1].
            stream: tells the noise of one sampling (coarse, each network's patches) from another's.

        Returns:
            The same shape, not clipped.
        """
        exposed = (sampled * self.exposure[:, None, None, None, None]).clamp(max=1)
        coloured = torch.einsum("nij,npjhw->npihw", self.colour[..., :3], exposed)
        coloured = coloured + self.colour[:, None, :, 3, None, None]
        for i in torch.nonzero(self.noise_std).flatten().tolist():
            generator = torch.Generator(sampled.device)
            generator.manual_seed(int(self.noise_seed[i]) + stream)
            noise = torch.randn(sampled.shape[1:], generator=generator, device=sampled.device)
            coloured[i] += self.noise_std[i] * noise
        return coloured

    def relabel(self, labels: Tensor) -> Tensor:
        """Exchanges left and right classes of the mirrored samples, `[N, ...]` uint8 class ids."""
        table = torch.tensor(self.label_set.mirrored_class, dtype=torch.uint8, device=labels.device)
        mirrored = self.mirrored.view(-1, *[1] * (labels.dim() - 1))
        return torch.where(mirrored, table[labels.long()], labels)

    def exchange_parts(self, of_parts: Tensor) -> Tensor:
        """Exchanges left and right parts of the mirrored samples, `[N, P, ...]`."""
        swap = torch.tensor(self.label_set.mirrored_part, device=of_parts.device)
        mirrored = self.mirrored.view(-1, *[1] * (of_parts.dim() - 1))
        return torch.where(mirrored, of_parts[:, swap], of_parts)


def draw(
    config: AugmentConfig,
    label_set: LabelSet,
    sizes: Sequence[tuple[int, int]],
    copies: Sequence[int],
    seeds: Iterable[Sequence[int]],
) -> Augmentation:
    """Makes the augmentation of N samples, all at once, as it consists of many small numbers.

    Args:
        config: ranges and probabilities.
        label_set: the classes and parts of the samples.
        sizes: (W, H) of the stored images, px.
        copies: which of `config.copies` copies each sample is, 0 first.
        seeds: the seed of each sample; its numbers do not depend on the other samples.
    """
    rngs = [np.random.default_rng(seed) for seed in seeds]
    uniform = np.stack([rng.random(NUM_UNIFORM) for rng in rngs])
    normal = np.stack([rng.standard_normal((label_set.num_parts, 3)) for rng in rngs])
    exposed = np.array(
        [rng.random(2) for rng in rngs]
    )  # last: the numbers before stay as they were
    chosen = _chosen(config, copies, uniform[:, :5])
    mirrored = uniform[:, 5] < config.mirror
    affine = _affine(config, chosen, mirrored, np.array(sizes, np.float64), uniform[:, 6:10])
    jitter = normal * [config.window_shift, config.window_shift, config.window_scale]
    return Augmentation(
        affine=_float32(affine),
        mirrored=torch.from_numpy(mirrored),
        exposure=_float32(_exposure(config.exposure, exposed)),
        colour=_float32(_colour(config.colour, uniform[:, 10:16])),
        noise_std=_float32(config.noise_std * chosen[:, NOISE]),
        noise_seed=torch.from_numpy((uniform[:, 16] * 2**48).astype(np.int64)),
        window_jitter=_float32(jitter),
        label_set=label_set,
    )


def _chosen(
    config: AugmentConfig, copies: Sequence[int], uniform: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Chooses which of the paper's operations each sample gets, `[N, 4]`, from `[N, 5]` numbers."""
    if not config.operations:
        return np.zeros((len(uniform), NUM_OPERATIONS), np.bool_)
    drawn = np.floor((NUM_OPERATIONS + 1) * uniform[:, 4])
    num = drawn if config.copies == 1 else np.array(copies)
    places = uniform[:, :NUM_OPERATIONS].argsort(axis=1).argsort(axis=1)
    return places < num[:, None]


def _affine(
    config: AugmentConfig,
    chosen: NDArray[np.bool_],
    mirrored: NDArray[np.bool_],
    sizes: NDArray[np.float64],
    uniform: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Returns the maps from frame to stored image, `[N, 2, 3]` in px.

    They undo shift, rotation, scale and mirror, in that order. Rotation and scale are about the
    image's centre. `uniform` is `[N, 4]`.
    """
    signed = 2 * uniform - 1
    angle = math.radians(config.rotation_deg) * signed[:, 0] * chosen[:, ROTATE]
    shift = config.shift * signed[:, 1:3] * sizes * chosen[:, SHIFT, None]
    drawn = config.scale_min + (config.scale_max - config.scale_min) * uniform[:, 3]
    scale = np.where(chosen[:, SCALE], drawn, 1.0)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    flip = np.where(mirrored, -1.0, 1.0)
    linear = np.stack([flip * cos, flip * sin, -sin, cos], axis=1).reshape(-1, 2, 2)
    centre = sizes / 2
    offset = centre[..., None] - linear @ (centre + shift)[..., None]
    return np.concatenate([linear, offset], axis=2)


def _exposure(strength: float, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns random factors on the light, for half of the samples; `uniform` is `[N, 2]`."""
    factor = (1 + strength) ** (2 * uniform[:, 0] - 1)
    return np.where(uniform[:, 1] < 0.5, factor, 1.0)


def _colour(strength: float, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns random brightness, contrast, saturation and tint as `[N, 3, 4]` maps of RGB.

    `uniform` is `[N, 6]`.
    """
    spread = strength * (2 * uniform - 1)
    brightness, contrast, saturation = spread[:, :3].T[..., None]
    tint = 0.25 * spread[:, 3:]
    linear = np.eye(3) + saturation[..., None] * (np.eye(3) - GREY)
    linear *= ((1 + contrast) * (1 + tint))[..., None]
    offset = 0.5 * (1 - linear.sum(axis=2)) + 0.5 * brightness
    return np.concatenate([linear, offset[..., None]], axis=2)


def _float32(values: NDArray[np.floating[Any]]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
