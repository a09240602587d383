"""The whole parser (paper Figure 1b): coarse -> localizer -> crop -> fine -> paste."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stn_icnn.config import ModelConfig
from stn_icnn.data.batch import Batch
from stn_icnn.geometry import crop, theta_from_windows, whole_image
from stn_icnn.labels import LabelSet
from stn_icnn.networks.centroid_cropper import CentroidCropper
from stn_icnn.networks.execution import Execution
from stn_icnn.networks.finder import Finder, FinderOutput
from stn_icnn.networks.icnn import ICNN
from stn_icnn.networks.localizer import Localizer

MAX_LOG_FACTOR = 1.5
"""A window is at most e^1.5 = 4.5 times as large as set, and at least 1 / 4.5."""

IMAGES_PER_CROP = 4
"""Number of images that patches are cut from at once on a CPU: a whole batch as floats outgrows its
caches."""


@dataclass(frozen=True)
class Parsing:
    """The outputs of the model for a batch of N faces.

    Attributes:
        coarse_logits: `[N, L, coarse_px, coarse_px]` float32, the coarse network's.
        locations: `[N, P, 3]` float32, for each part the centre of its window as a share of the
            image's width and height, and the log factor on the window's size.
        windows: `[N, P, 4]` float32, centre, width and height of each part's window, px of the
            (augmented) frame.
        sizes: `[N, 2]` float32, (W, H) of each image, px.
        theta: by fine network, the windows of its Q parts on the canvas, `[N, Q, 2, 3]` float32.
        part_logits: by fine network, the labels of its Q parts, `[N, Q, 1 + classes, px, px]`
            float32. Channel 0 is background.
        label_set: the P parts, and the classes, of which the model labels L.
    """

    coarse_logits: Tensor
    locations: Tensor
    windows: Tensor
    sizes: Tensor
    theta: Mapping[str, Tensor]
    part_logits: Mapping[str, Tensor]
    label_set: LabelSet


class STNiCNN(nn.Module):
    """Coarse network, localizer and fine networks, wired as in Figure 1b.

    Args:
        coarse: the network that labels the squared copy of the image (K in the paper).
        localizer: the network that finds the parts in the rough labelling (L in the paper), or the
            baseline's cropper.
        fine: by name, the networks that label patches (K_i in the paper).
        config: the sizes that they were built for.
        finder: the network that finds faces in photographs; None: the model has none.

    Attributes:
        label_set: the classes and parts that the networks label.
        execution: how the networks are run; `execution.prepare_model` sets it.
    """

    def __init__(
        self,
        coarse: ICNN,
        localizer: Localizer | CentroidCropper,
        fine: Mapping[str, ICNN],
        config: ModelConfig,
        finder: Finder | None = None,
    ) -> None:
        super().__init__()
        self.coarse = coarse
        self.localizer = localizer
        self.fine = nn.ModuleDict(fine)
        self.finder = finder
        self.config = config
        self.label_set = config.label_set
        self.execution = Execution()

    @property
    def finds_faces(self) -> bool:
        """Whether it has a finder that is trained."""
        return self.finder is not None and self.finder.is_trained

    def forward(self, batch: Batch) -> Parsing:
        """Labels the patches of a batch of faces; `pasting.label_maps` pastes them."""
        coarse_logits = self.label_coarsely(batch)
        locations = self.locate(coarse_logits)
        windows = self.windows(locations, batch)
        theta, part_logits = self.label_parts(batch, windows)
        return Parsing(
            coarse_logits, locations, windows, batch.sizes, theta, part_logits, self.label_set
        )

    def look_for_faces(self, photos: Tensor) -> FinderOutput:
        """Looks for faces with the finder, which the model must have.

        Args:
            photos: `[N, 3, H, W]` float32 in [0, 1], reduced; H and W even.
        """
        assert self.finder is not None
        return self.finder.split(self.execution.run(self.finder, photos))

    def label_coarsely(self, batch: Batch) -> Tensor:
        """Labels the squared copy of each image (equation 1).

        Returns:
            Logits of the model's L classes, `[N, L, coarse_px, coarse_px]` float32.
        """
        theta = theta_from_windows(whole_image(batch.sizes), batch.sizes, batch.affine)
        coarse_px = self.config.coarse_px
        squared = crop(batch.reduced(coarse_px).float(), theta, coarse_px) / 255
        if batch.augmentation is not None:
            squared = batch.augmentation.appearance(squared, stream=0)
        return self.execution.run(self.coarse, squared[:, 0])

    def locate(self, coarse_logits: Tensor) -> Tensor:
        """Locates the parts in the coarse labels (equation 2), `[N, P, 3]` float32."""
        probs = located_probs(coarse_logits, self.label_set)
        return self.execution.run(self.localizer, probs)

    def windows(self, locations: Tensor, batch: Batch) -> Tensor:
        """Returns the parts' windows, with the augmentation's jitter where there is one.

        Args:
            locations: `[N, P, 3]` float32, as `locate` returns them.
            batch: the faces that they are shares of.

        Returns:
            `[N, P, 4]` float32: centre, width, height, px of the (augmented) frame.
        """
        side = locations.new_tensor(self.label_set.per_part(self.config.window_px))
        centre, log_factor = locations[..., :2] * batch.sizes[:, None], locations[..., 2]
        if batch.augmentation is not None:
            jitter = batch.augmentation.window_jitter
            centre = centre + jitter[..., :2] * side[:, None]
            log_factor = log_factor + jitter[..., 2]
        side = (side * log_factor.clamp(-MAX_LOG_FACTOR, MAX_LOG_FACTOR).exp())[..., None]
        return torch.cat([centre, side, side], dim=-1)

    def label_parts(
        self, batch: Batch, windows: Tensor, networks: Sequence[str] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Cuts the patches (equation 3) and labels them (equation 4).

        Args:
            batch: whose images the patches are cut from.
            windows: `[N, P, 4]` float32, as `windows` returns them.
            networks: names of the fine networks whose parts are labelled; all of them if None.

        Returns:
            Theta and logits by fine network, as in `Parsing`.
        """
        parts = self.label_set.parts_of_network
        theta = {
            name: theta_from_windows(windows[:, list(parts[name])], batch.canvas_size, batch.affine)
            for name in (parts if networks is None else networks)
        }
        seen = {}
        for stream, (name, patches) in enumerate(self._cut(batch, theta).items(), start=1):
            if batch.augmentation is not None:
                patches = batch.augmentation.appearance(patches, stream)
            seen[name] = self._mirror(patches, name).flatten(0, 1)
        logits = {}
        outputs = self.execution.run_each((self.fine[name], x) for name, x in seen.items())
        for name, labelled in zip(seen, outputs, strict=True):
            by_part = labelled.view(-1, len(parts[name]), *labelled.shape[1:])
            logits[name] = self._mirror(by_part, name)
        return theta, logits

    def _cut(self, batch: Batch, theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cuts the patches of each network, `[N, Q, 3, patch_px, patch_px]` float32 in [0, 1]."""
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

    def _mirror(self, patches: Tensor, network: str) -> Tensor:
        """Mirrors those of a network's patches, `[N, Q, C, px, px]`, whose part is mirrored."""
        parts = [self.label_set.parts[i] for i in self.label_set.parts_of_network[network]]
        if not any(part.mirrored for part in parts):
            return patches
        return torch.stack(
            [
                patch.flip(-1) if part.mirrored else patch
                for patch, part in zip(patches.unbind(1), parts, strict=True)
            ],
            dim=1,
        )


def located_probs(coarse_logits: Tensor, label_set: LabelSet) -> Tensor:
    """Returns the probabilities of the classes that parts are located by.

    Those of the classes of the whole image are added to background's, so that a localizer serves
    label sets that differ in these alone.

    Args:
        coarse_logits: `[N, L, H, W]` float32, of the model's L classes.
        label_set: the classes.

    Returns:
        `[N, K, H, W]` float32, of the label set's K located classes.
    """
    probs = coarse_logits.softmax(dim=1)
    if not label_set.whole_classes:
        return probs
    channels = label_set.channels_of(label_set.located_classes)
    located = probs[:, channels]
    located[:, 0] += probs[:, label_set.channels_of(label_set.whole_classes)].sum(dim=1)
    return located


def build_model(config: ModelConfig) -> STNiCNN:
    """Builds the networks of a model, freshly initialised, and wires them."""
    label_set = config.label_set
    fine = {
        name: ICNN(1 + len(label_set.part_classes[parts[0]]), config.kernel_size)
        for name, parts in label_set.parts_of_network.items()
    }
    is_baseline = config.cropper == "centroid"
    return STNiCNN(
        coarse=ICNN(len(label_set.model_classes), config.kernel_size),
        localizer=CentroidCropper(label_set)
        if is_baseline
        else Localizer(label_set, config.coarse_px, config.learn_scale),
        fine=fine,
        config=config,
        finder=Finder(label_set, config.kernel_size) if config.finder_px else None,
    )
