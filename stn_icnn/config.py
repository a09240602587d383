"""The settings of a training: a frozen dataclass for each concern.

Every field is a command-line option of the jobs (`optim.lr_coarse` is `--optim.lr-coarse`). Where
the paper and its authors' code disagree, the field's text names the choice; `docs/decisions.md`
gives the reason.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Final, Literal

from stn_icnn.checks import require
from stn_icnn.label_set_file import label_set_of
from stn_icnn.label_sets import PAPER9
from stn_icnn.labels import LabelSet

Cropper = Literal["localizer", "centroid"]
Network = Literal["coarse", "localizer", "fine", "finder"]
Precision = Literal["auto", "fp32", "bf16"]

MOST_PATCH_PX: Final = 127
"""The largest side of a patch unless a setting names it, px (127 in the paper's Table 1)."""

LEAST_PARTS_TO_FIND: Final = 3
"""The least number of labelled parts that a face is fitted to: fewer fit anywhere."""

Sizes = Mapping[str, int]
"""Maps each fine network to a side in px, of the windows or patches of the parts that it labels."""


def same_size(px: int) -> Sizes:
    """Returns one side for the parts of all fine networks, as in the paper."""
    return dict.fromkeys(PAPER9.fine_networks, px)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and choices of the networks."""

    coarse_px: int = 128
    """Side of the squared copy that the coarse network labels, px (paper 3.3: 128)."""
    kernel_size: int = 3
    """Side of the interlinked networks' kernels, odd (3 in the paper, 5 in its authors' code)."""
    window_px: Sizes = field(default_factory=partial(same_size, 81))
    """Side of the windows cut for each fine network's parts, in pixels of the image at working
    scale."""
    patch_px: Sizes = field(default_factory=partial(same_size, 81))
    """Side that each fine network's windows are sampled to, px, odd (paper 3.3; equal to the window
    there)."""
    learn_scale: bool = True
    """Whether the localizer also predicts a log factor on `window_px`; its pre-training target is
    0."""
    labels: str = PAPER9.name
    """The label set: the name of one that comes along, or one's own as JSON (`label_set_file`)."""
    cropper: Cropper = "localizer"
    """The finder of the parts in the coarse labels: the paper's `localizer`, or the `centroid` of
    each part's pixels, as in the two-stage iCNN (the phase `baseline` sets it)."""
    finder_px: int = 0
    """Longer side of what the finder sees of a photograph, px; 0: no finder. The model then takes a
    whole photograph for a face (as in the paper)."""
    canvas_px: int = 1024
    """Limit on the side of an image, px: a larger one is refused in training."""

    def __post_init__(self) -> None:
        px, kernel = self.coarse_px, self.kernel_size
        require(px >= 32 and px % 2 == 0, "model.coarse_px", "even and at least 32", px)
        require(kernel > 0 and kernel % 2 == 1, "model.kernel_size", "odd", kernel)
        side = self.finder_px
        fits = side == 0 or (side >= 64 and side % 2 == 0)
        require(fits, "model.finder_px", "0, or even and at least 64", side)
        enough = side == 0 or self.label_set.num_parts >= LEAST_PARTS_TO_FIND
        wanted = f"0 for a label set of fewer than {LEAST_PARTS_TO_FIND} parts"
        require(enough, "model.finder_px", wanted, side)
        networks = self.label_set.fine_networks
        for name in ("window_px", "patch_px"):
            sizes = getattr(self, name)
            expected = f"a size for each of {', '.join(networks)}, and no other"
            require(set(sizes) == set(networks), f"model.{name}", expected, dict(sizes))
        for network in networks:
            patch, window = self.patch_px[network], self.window_px[network]
            expected = "odd (so that the grid falls on pixels, paper section 3.3) and at least 9"
            require(patch % 2 == 1 and patch >= 9, f"model.patch_px.{network}", expected, patch)
            expected = f"from 9 to the canvas limit model.canvas_px = {self.canvas_px}"
            require(9 <= window <= self.canvas_px, f"model.window_px.{network}", expected, window)

    @property
    def label_set(self) -> LabelSet:
        """The classes and parts that the model labels."""
        return label_set_of(self.labels)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """The paper's four random operations (section 2.5.1), and five of our own that are off."""

    copies: int = 1
    """Copies of each image in an epoch. 1: each with 0 to 4 operations. 5: copy i with i of them,
    the paper's epoch."""
    operations: bool = True
    """Whether the paper's four operations are applied at all."""
    rotation_deg: float = 15.0
    """(a) Rotation, drawn from +- this, degrees."""
    shift: float = 0.2
    """(b) Shift, drawn from +- this share of width and height (paper 0.2, its code 0.1)."""
    scale_min: float = 0.8
    """(c) Least scale (the paper prints 0.2, which leaves a 128 px face 26 px; its code 0.9)."""
    scale_max: float = 1.2
    """(c) Greatest scale."""
    noise_std: float = 0.05
    """(d) Standard deviation of Gaussian noise, as a share of full brightness."""
    mirror: float = 0.0
    """Probability of mirroring the image, left and right parts exchanged (not in the paper)."""
    colour: float = 0.0
    """Strength of random brightness, contrast, saturation and tint, 0 to 1 (not in the paper)."""
    exposure: float = 0.0
    """Random light of half of the images, up to 1 + this times as much or as little, cut off at
    white (not in the paper)."""
    window_shift: float = 0.0
    """Random shift of the training windows, standard deviation as a share of their side (not in
    the paper): the fine networks learn to do without a perfect localizer."""
    window_scale: float = 0.0
    """Random log factor on the training windows, standard deviation (not in the paper)."""

    def __post_init__(self) -> None:
        require(self.copies in (1, 5), "augment.copies", "1 or 5", self.copies)
        low, high = self.scale_min, self.scale_max
        names = "augment.scale_min and augment.scale_max"
        require(0 < low <= high, names, "positive and in order", (low, high))
        own = ("rotation_deg", "shift", "noise_std", "exposure", "window_shift", "window_scale")
        for name in own:
            require(getattr(self, name) >= 0, f"augment.{name}", "0 or more", getattr(self, name))
        require(0 <= self.mirror <= 1, "augment.mirror", "a probability", self.mirror)
        require(0 <= self.colour <= 1, "augment.colour", "from 0 to 1", self.colour)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer, Adam: its learning rates (the paper's Table 1), epochs and batches."""

    lr_coarse: float = 2.3e-3
    """Learning rate of the coarse network in its pre-training."""
    lr_localizer: float = 1.7e-3
    """Learning rate of the localizer in its pre-training."""
    lr_coarse_end_to_end: float = 1e-4
    """Learning rate of the coarse network in the end-to-end phase; 0 freezes it."""
    lr_localizer_end_to_end: float = 1e-4
    """Learning rate of the localizer in the end-to-end phase; 0 freezes it."""
    lr_fine: float = 1e-2
    """Learning rate of the fine networks."""
    lr_finder: float = 3e-3
    """Learning rate of the finder."""
    epochs_coarse: int = 25
    """Epochs of the coarse network's pre-training."""
    epochs_localizer: int = 25
    """Epochs of the localizer's pre-training."""
    epochs_end_to_end: int = 25
    """Epochs of the end-to-end phase. `frozen` and `baseline`, which it is compared with, have as
    many."""
    epochs_fine: int = 10
    """Epochs of the phase `fine`, which sweeps train (not in the paper)."""
    epochs_finder: int = 80
    """Epochs of the finder."""
    global_batch: int = 32
    """Images a step, all workers together."""
    micro_batch: int = 0
    """Images that a worker computes at once: its share of a step is taken in pieces of about so
    many, whose gradients add up, where memory does not hold it whole. 0: whole."""
    schedule: Literal["halving", "one_cycle"] = "halving"
    """`halving`: the paper's, halved every `halve_every_epochs`. `one_cycle`: up over the first
    tenth, down to nothing along a cosine."""
    halve_every_epochs: int = 5
    """Epochs between halvings of the rates."""
    max_grad_norm: float = 0.0
    """Gradients are scaled down to this norm a network; 0: never (as in the paper)."""
    freeze_pretrained_stats: bool = True
    """Whether, in the end-to-end phase, batch norm of the coarse network and the localizer uses its
    running statistics, so that a face's windows do not depend on its batch (the paper does not
    say; F1 was the same either way, docs/results.md)."""
    freeze_batch_stats: bool = False
    """Whether batch norm of all networks uses its running statistics in the training of all phases,
    so that no sample's result depends on its batch."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name.startswith(("lr_", "max_", "micro_")):
                require(0 <= value < math.inf, f"optim.{name}", "0 or more, and finite", value)
            own_phase = ("lr_coarse", "lr_localizer", "lr_fine", "lr_finder")
            if name.startswith("epochs_") or name in own_phase:
                require(value > 0, f"optim.{name}", "more than 0", value)
            if name in ("global_batch", "halve_every_epochs"):
                require(value >= 1, f"optim.{name}", "at least 1", value)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The losses that the end-to-end phase adds to the fine networks' (the paper adds none)."""

    coarse_weight: float = 0.0
    """Weight of the coarse network's cross-entropy."""
    localizer_weight: float = 0.0
    """Weight of the localizer's smooth L1, which holds the windows: without it they move and shrink
    to where labelling is easy. At 10 they still drift on real faces (docs/results.md)."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            require(value >= 0, f"loss.{name}", "0 or more", value)


@dataclass(frozen=True, kw_only=True)
class FineConfig:
    """The phase `fine`: fine networks alone, on windows cut where the parts truly are."""

    networks: tuple[str, ...] = PAPER9.fine_networks
    """The fine networks that are trained, each scored on its own classes."""
    window_error: float = 0.01
    """Error of the windows' centres, as a localizer would make it: standard deviation as a share of
    the image's sides; 0: none. It is in training, where `augment.window_shift` adds to it, and in
    validation."""

    def __post_init__(self) -> None:
        require(0 <= self.window_error < 1, "fine.window_error", "0 to under 1", self.window_error)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings that the result of a training depends on; its data are named elsewhere."""

    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    fine: FineConfig = field(default_factory=FineConfig)
    seed: int = 0
    """Seed of the initial weights, the order of samples, and the augmentation."""
    precision: Precision = "auto"
    """Arithmetic of the networks' convolutions. `auto`: bf16 autocast where the device is taken to
    be quicker in it (`stn_icnn.networks.execution.prefers_bf16`), else fp32. Centres, theta, grids,
    losses and paste are float32 always."""
    channels_last: bool = True
    """Memory layout of the convolutions: faster on the CPUs and GPUs tried."""
    validate_every_epochs: int = 1
    """Epochs between looks at the validation split; the last epoch is always validated."""
    checkpoint_every_steps: int = 200
    """Steps between checkpoints in an epoch, which has one at its end as well; 0: that only."""

    def __post_init__(self) -> None:
        for name in ("seed", "checkpoint_every_steps"):
            require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        every = self.validate_every_epochs
        require(every >= 1, "validate_every_epochs", "at least 1", every)
        known, chosen = self.model.label_set.fine_networks, self.fine.networks
        distinct = 0 < len(chosen) == len(set(chosen) & set(known))
        expected = f"one or more of {', '.join(known)}, each once"
        require(distinct, "fine.networks", expected, " ".join(chosen) or "none")


def with_labels(config: TrainConfig, labels: str) -> TrainConfig:
    """Returns settings with another label set.

    Fine networks of both sets keep the sizes of their windows and patches; those of the new one
    have windows of the size that it gives, sampled at it or at `MOST_PATCH_PX`. A set of too few
    parts to find faces by has no finder. Where classes lie over the whole image, the coarse
    network's loss counts in the end-to-end phase, as nothing else holds them there.

    Args:
        config: the settings.
        labels: the label set, as `ModelConfig.labels` holds it.
    """
    model, label_set = config.model, label_set_of(labels)
    own = {part.network: part.window_px for part in label_set.parts}
    window_px = {name: model.window_px.get(name, px) for name, px in own.items()}
    patch_px = {
        name: model.patch_px.get(name, min(px - 1 + px % 2, MOST_PATCH_PX))
        for name, px in own.items()
    }
    chosen = tuple(name for name in config.fine.networks if name in own)
    finder_px = model.finder_px if label_set.num_parts >= LEAST_PARTS_TO_FIND else 0
    weight = config.loss.coarse_weight or float(bool(label_set.whole_classes))
    return replace(
        config,
        model=replace(
            model, labels=labels, window_px=window_px, patch_px=patch_px, finder_px=finder_px
        ),
        loss=replace(config.loss, coarse_weight=weight),
        fine=replace(config.fine, networks=chosen or label_set.fine_networks),
    )
