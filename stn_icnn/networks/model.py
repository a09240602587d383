"""The whole parser (paper Figure 1b): coarse -> localizer -> crop -> fine -> paste."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stn_icnn.config import ModelConfig
from stn_icnn.data.batch import Batch
from stn_icnn.geometry import crop, theta_from_windows, whole_image
from stn_icnn.labels import (
    FINE_NETWORKS,
    MODEL_CLASSES,
    PARTS,
    PARTS_OF_NETWORK,
)
from stn_icnn.networks.centroid_cropper import CentroidCropper
from stn_icnn.networks.execution import Execution
from stn_icnn.networks.icnn import ICNN
from stn_icnn.networks.localizer import Localizer

MAX_LOG_FACTOR = 1.5
"""A window is at most e^1.5 = 4.5 times as large as set, and at least 1 / 4.5."""


IMAGES_PER_CROP = 4
"""Images that patches are cut from on a CPU: whole batches as floats outgrow its caches."""


@dataclass(frozen=True)
class Parsing:
    """What the parser makes of a batch of N faces."""

    coarse_logits: Tensor
    """`[N, 9, coarse_px, coarse_px]` float32."""
    locations: Tensor
    """`[N, 6, 3]` float32: centre as a share of width and height, log factor on the window."""
    windows: Tensor
    """`[N, 6, 4]` float32: centre, width, height, px of the (augmented) frame."""
    theta: Mapping[str, Tensor]
    """A fine network's windows on the canvas, `[N, P, 2, 3]` float32; P parts share it."""
    part_logits: Mapping[str, Tensor]
    """A fine network's labels, `[N, P, 1 + classes, px, px]` float32; channel 0 is background."""


class STNiCNN(nn.Module):
    """Coarse network, localizer and fine networks, wired as in Figure 1b.

    Args:
        coarse: labels the squared copy with nine classes (K).
        localizer: finds the parts in the rough labelling (L), or the baseline's cropper.
        fine: the networks that label patches, by name of `labels.FINE_NETWORKS` (K_i).
        config: the sizes they were built for.

    Attributes:
        execution: how the networks are run; `execution.prepare_model` sets it.
    """

    def __init__(
        self,
        coarse: ICNN,
        localizer: Localizer | CentroidCropper,
        fine: Mapping[str, ICNN],
        config: ModelConfig,
    ) -> None:
        super().__init__()
        self.coarse = coarse
        self.localizer = localizer
        self.fine = nn.ModuleDict(fine)
        self.config = config
        self.execution = Execution()

    def forward(self, batch: Batch) -> Parsing:
        """Parses a batch, up to the labels of the patches; `pasting.label_maps` pastes them."""
        coarse_logits = self.label_coarsely(batch)
        locations = self.locate(coarse_logits)
        windows = self.windows(locations, batch)
        theta, part_logits = self.label_parts(batch, windows)
        return Parsing(coarse_logits, locations, windows, theta, part_logits)

    def label_coarsely(self, batch: Batch) -> Tensor:
        """The coarse network's logits (equation 1), `[N, 9, coarse_px, coarse_px]` float32."""
        theta = theta_from_windows(whole_image(batch.sizes), batch.sizes, batch.affine)
        coarse_px = self.config.coarse_px
        squared = crop(batch.reduced(coarse_px).float(), theta, coarse_px) / 255
        if batch.augmentation is not None:
            squared = batch.augmentation.appearance(squared, stream=0)
        return self.execution.run(self.coarse, squared[:, 0])

    def locate(self, coarse_logits: Tensor) -> Tensor:
        """Where the parts are (equation 2), `[N, 6, 3]` float32."""
        return self.execution.run(self.localizer, coarse_logits.softmax(dim=1))

    def windows(self, locations: Tensor, batch: Batch) -> Tensor:
        """Windows in pixels of the frame, `[N, 6, 4]` float32; jittered where augmented so."""
        side = locations.new_tensor(self.config.label_set.per_part(self.config.window_px))
        centre, log_factor = locations[..., :2] * batch.sizes[:, None], locations[..., 2]
        if batch.augmentation is not None:
            jitter = batch.augmentation.window_jitter
            centre = centre + jitter[..., :2] * side[:, None]
            log_factor = log_factor + jitter[..., 2]
        side = (side * log_factor.clamp(-MAX_LOG_FACTOR, MAX_LOG_FACTOR).exp())[..., None]
        return torch.cat([centre, side, side], dim=-1)

    def label_parts(
        self, batch: Batch, windows: Tensor, networks: Sequence[str] = FINE_NETWORKS
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Cuts the patches (equation 3) and labels them (equation 4), with some of the networks.

        Returns:
            Theta and logits by fine network, as in `Parsing`.
        """
        theta = {
            name: theta_from_windows(
                windows[:, list(PARTS_OF_NETWORK[name])], batch.canvas_size, batch.affine
            )
            for name in networks
        }
        seen = {}
        for stream, (name, patches) in enumerate(self._cut(batch, theta).items(), start=1):
            if batch.augmentation is not None:
                patches = batch.augmentation.appearance(patches, stream)
            seen[name] = _mirror(patches, PARTS_OF_NETWORK[name]).flatten(0, 1)
        logits = {}
        outputs = self.execution.run_each((self.fine[name], x) for name, x in seen.items())
        for name, labelled in zip(seen, outputs, strict=True):
            parts = PARTS_OF_NETWORK[name]
            logits[name] = _mirror(labelled.view(-1, len(parts), *labelled.shape[1:]), parts)
        return theta, logits

    def _cut(self, batch: Batch, theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The patches of each network, `[N, P, 3, patch_px, patch_px]` float32 in [0, 1]."""
        if batch.images.is_cuda or len(batch) <= IMAGES_PER_CROP:
            return self._cut_at_once(batch.images, theta)
        cut = []
        for start in range(0, len(batch), IMAGES_PER_CROP):
            some = slice(start, start + IMAGES_PER_CROP)
            of_some = {name: of_batch[some] for name, of_batch in theta.items()}
            cut.append(self._cut_at_once(batch.images[some], of_some))
        return {name: torch.cat([patches[name] for patches in cut]) for name in theta}

    def _cut_at_once(self, images: Tensor, theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
        images = images.float()
        px = {name: self.config.patch_px[name] for name in theta}
        return {name: crop(images, of_batch, px[name]) / 255 for name, of_batch in theta.items()}


def _mirror(patches: Tensor, parts: Sequence[int]) -> Tensor:
    """Mirrors `[N, P, C, px, px]` where a part is the mirrored one of its pair."""
    if not any(PARTS[part].mirrored for part in parts):
        return patches
    return torch.stack(
        [
            p.flip(-1) if PARTS[i].mirrored else p
            for p, i in zip(patches.unbind(1), parts, strict=True)
        ],
        dim=1,
    )


def build_model(config: ModelConfig) -> STNiCNN:
    """All wiring: the networks for a config, freshly initialised."""
    fine = {}
    for name in FINE_NETWORKS:
        num_classes = 1 + len(PARTS[PARTS_OF_NETWORK[name][0]].classes)
        fine[name] = ICNN(num_classes, config.kernel_size)
    is_baseline = config.cropper == "centroid"
    return STNiCNN(
        coarse=ICNN(len(MODEL_CLASSES), config.kernel_size),
        localizer=CentroidCropper()
        if is_baseline
        else Localizer(config.coarse_px, config.learn_scale),
        fine=fine,
        config=config,
    )
