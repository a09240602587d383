"""The phases of training (paper section 2.5.2): what each trains, and on which loss."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor, nn

from stn_icnn.config import (
    FineConfig,
    LossConfig,
    Network,
    OptimConfig,
    PhaseName,
    TrainConfig,
)
from stn_icnn.data.batch import Batch
from stn_icnn.labels import FINE_NETWORKS
from stn_icnn.networks.model import Parsing, STNiCNN
from stn_icnn.training.losses import coarse_loss, fine_loss, localizer_loss
from stn_icnn.training.true_windows import parse_true_windows, true_windows_loss

PHASES: tuple[PhaseName, ...] = ("coarse", "localizer", "end_to_end")
"""Of the paper's model, in the order of training."""

STARTS_FROM: Mapping[PhaseName, PhaseName] = {
    "localizer": "coarse",
    "end_to_end": "localizer",
    "frozen": "localizer",
    "baseline": "coarse",
}
"""The phase whose model each goes on from; those that are not here need none."""

TRAINED_BY: Mapping[str, tuple[str, ...]] = {
    "coarse": ("coarse",),
    "localizer": ("coarse", "localizer"),
    "end_to_end": ("coarse", "localizer", "fine"),
    "frozen": ("coarse", "localizer", "fine"),
    "baseline": ("coarse", "fine"),
    "fine": ("fine",),
}
"""Networks that have learnt something by the end of a phase, whatever came before it."""

SYSTEMS: Mapping[str, PhaseName] = {
    "iCNN": "baseline",
    "STN-iCNN*": "frozen",
    "STN-iCNN": "end_to_end",
}
"""The paper's names of its systems, each said to be better than the one before, and the phases that
make them."""


def system_of(phase: str) -> str:
    """The paper's name for the model of a phase; one that is not whole yet is called STN-iCNN."""
    return next((system for system, last in SYSTEMS.items() if last == phase), "STN-iCNN")


def required_networks(phase: PhaseName) -> tuple[str, ...]:
    """Networks that a phase must find trained."""
    before = STARTS_FROM.get(phase)
    return () if before is None else TRAINED_BY[before]


def networks_keeping_stats(phase: PhaseName, optim: OptimConfig) -> Collection[str]:
    """Networks whose batch norm's running statistics a phase uses and does not change."""
    if optim.freeze_batch_stats:
        return get_args(Network)
    return required_networks(phase) if optim.freeze_pretrained_stats else ()


def settings_of(phase: PhaseName, config: TrainConfig) -> TrainConfig:
    """The settings that a phase of a training has.

    `frozen` (the paper's STN-iCNN*) and `baseline` (its iCNN) are `end_to_end` with fine networks
    alone to train, so with no other loss; the baseline has the centroid cropper.
    """
    if phase in ("frozen", "baseline"):
        config = replace(config, loss=LossConfig())
    if phase == "baseline":
        config = replace(config, model=replace(config.model, cropper="centroid"))
    return config


def needs_labels(phase: PhaseName) -> bool:
    """Whether a phase's loss and score need label maps; the localizer learns centres alone."""
    return phase != "localizer"


class PhaseLoss(nn.Module):
    """A model and a phase's loss: the module whose gradients are averaged over ranks."""

    def __init__(
        self,
        model: STNiCNN,
        phase: PhaseName,
        weights: LossConfig,
        fine: FineConfig | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.phase = phase
        self.weights = weights
        self.fine = fine or FineConfig()

    def forward(self, batch: Batch) -> Tensor:
        """The phase's loss, summed over the samples of a batch; scalar float32."""
        model = self.model
        if self.phase == "coarse":
            return coarse_loss(model.label_coarsely(batch), batch)
        if self.phase == "localizer":
            with torch.no_grad():
                coarse_logits = model.label_coarsely(batch)
            return localizer_loss(model.locate(coarse_logits), batch)
        if self.phase == "fine":
            parsing = parse_true_windows(model, batch, self.fine.networks, self.fine.window_error)
            return true_windows_loss(parsing, batch)
        return end_to_end_loss(model(batch), batch, self.weights)


def end_to_end_loss(parsing: Parsing, batch: Batch, weights: LossConfig) -> Tensor:
    """The fine networks' loss, and what the settings add to it; scalar, summed over samples."""
    loss = fine_loss(parsing, batch)
    if weights.coarse_weight:
        loss = loss + weights.coarse_weight * coarse_loss(parsing.coarse_logits, batch)
    if weights.localizer_weight:
        loss = loss + weights.localizer_weight * localizer_loss(parsing.locations, batch)
    return loss


def networks(model: STNiCNN) -> dict[Network, nn.Module]:
    """The model's networks, by the name that learning rates go by."""
    return {"coarse": model.coarse, "localizer": model.localizer, "fine": model.fine}


def set_trained(
    model: STNiCNN,
    rates: Mapping[Network, float],
    keeping_stats: Collection[str] = (),
    fine: Sequence[str] = FINE_NETWORKS,
) -> None:
    """Readies the trained networks and freezes the others: `eval()`, no gradient.

    Args:
        model: whose networks they are.
        rates: by the trained ones' names.
        keeping_stats: networks whose batch norm uses its running statistics, and keeps them.
        fine: which of the fine networks are trained, where `rates` has `fine`.
    """
    for name, network in networks(model).items():
        trained = name in rates
        network.requires_grad_(trained)
        network.train(trained and name not in keeping_stats)
    for part, network in model.fine.items():
        if part not in fine:
            network.requires_grad_(False).eval()


def trained_parameters(
    model: STNiCNN, rates: Mapping[Network, float]
) -> Iterator[tuple[Network, list[nn.Parameter]]]:
    """The parameters that `set_trained` has readied, by network."""
    for name, network in networks(model).items():
        if name in rates:
            yield name, [p for p in network.parameters() if p.requires_grad]
