"""The phases of training (paper section 2.5.2): one row of the table `PHASES` each.

A phase trains some of the model's networks on one loss and selects its best epoch by one metric.
All that tells the phases apart is in their rows, and everything else asks these. To add a phase,
add its name to `PhaseName`, its row to `_ROWS` and what it makes of a batch to `objectives`; its
learning rates and its number of epochs are settings of `config.OptimConfig`. Imports no torch, so
that the options of a job can be shown without it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from stn_icnn.config import ModelConfig, Network, OptimConfig, TrainConfig

if TYPE_CHECKING:
    from stn_icnn.networks.model import STNiCNN

PhaseName = Literal["coarse", "localizer", "fine", "baseline", "frozen", "end_to_end", "finder"]
ObjectiveName = Literal["coarse", "localizer", "fine", "end_to_end", "finder"]
System = Literal["iCNN", "STN-iCNN*", "STN-iCNN"]
"""The paper's names of its systems, each said to be better than the one before."""


@dataclass(frozen=True)
class SelectionMetric:
    """The validation metric by which the models of a phase are compared."""

    name: str
    """Its key among the metrics of an epoch."""
    words: str
    """What lines about an epoch call it."""
    more_is_better: bool = True

    def score(self, value: float) -> float:
        """Turns the metric into a score, of which more is better, and a score into the metric."""
        return value if self.more_is_better else -value


F1_OVERALL = SelectionMetric("val/f1_overall", "val F1")
F1_OF_PARTS = SelectionMetric("val/f1_parts", "val F1 of parts")
FACES_FOUND = SelectionMetric("val/faces_f1", "val F1 of faces found")
LOSS = SelectionMetric("val/loss", "val loss", more_is_better=False)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase of training: a row of the table `PHASES`."""

    name: PhaseName
    starts_from: PhaseName | None = None
    """The phase whose model it goes on from; None: from freshly initialized networks."""
    rates: Mapping[Network, str]
    """The networks that it trains, and the setting of `optim` that is the learning rate of each."""
    epochs: str
    """The setting of `optim` that is its number of epochs."""
    objective: ObjectiveName
    """The name, in `objectives.OBJECTIVES`, of the function that computes its loss on a batch and,
    for validation, label maps and windows."""
    needs_labels: bool = True
    """Whether its objective takes label maps; else the parts' centres are enough."""
    asks_others: bool = True
    """Whether its objective also asks the networks that it needs and does not train."""
    only_chosen_fine: bool = False
    """Whether the setting `fine.networks` says which of the fine networks it trains and scores."""
    selected_by: SelectionMetric = F1_OVERALL
    """The metric that its best epoch, and the best trial of a sweep that it ends, are chosen by."""
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings by group and name, which it has instead of the training's."""
    in_sweeps: bool = True
    """Whether the trials of a sweep may train it."""
    system: System | None = None
    """The paper's name for the model that it makes; None: it is no whole system yet."""

    def num_epochs(self, optim: OptimConfig) -> int:
        """Returns its number of epochs."""
        return int(getattr(optim, self.epochs))

    def learning_rates(self, optim: OptimConfig) -> dict[Network, float]:
        """Returns the rate of each network that it trains; those at 0 are left out."""
        rates = {network: float(getattr(optim, name)) for network, name in self.rates.items()}
        return {network: rate for network, rate in rates.items() if rate > 0}

    def settings(self, config: TrainConfig) -> TrainConfig:
        """Returns the settings of a training with those that the phase overrides."""
        groups = {
            group: replace(getattr(config, group), **values)
            for group, values in self.overrides.items()
        }
        return replace(config, **groups)

    def score(self, metrics: Mapping[str, float]) -> float:
        """Returns the score of an epoch, of which more is better, from its validation metrics.

        It is 0 where F1 is undefined, as the split has none of the parts that it is of.
        """
        return self.selected_by.score(metrics.get(self.selected_by.name, 0.0))

    @property
    def required_networks(self) -> tuple[Network, ...]:
        """The networks that it must find trained."""
        return () if self.starts_from is None else PHASES[self.starts_from].trained_networks

    @property
    def trained_networks(self) -> tuple[Network, ...]:
        """The networks that are trained when it ends, by it or by the phases before it."""
        return tuple(dict.fromkeys((*self.required_networks, *self.rates)))

    def set_trained(self, model: "STNiCNN", config: TrainConfig) -> None:
        """Readies the networks of a model that it trains, and freezes the others.

        A frozen network gets no gradient and is in `eval()`. One that is trained is in `train()`,
        unless its batch norm is to use its running statistics and keep them.

        Args:
            model: changed in place.
            config: the settings of the training, with those that the phase overrides.
        """
        optim = config.optim
        rates = self.learning_rates(optim)
        keeping = self.required_networks if optim.freeze_pretrained_stats else ()
        for name, network in model.named_children():
            keeps_stats = optim.freeze_batch_stats or name in keeping
            network.requires_grad_(name in rates).train(name in rates and not keeps_stats)
        for name, network in model.fine.items():
            if self.only_chosen_fine and name not in config.fine.networks:
                network.requires_grad_(False).eval()

    def uses(self, setting: str) -> bool:
        """Tells whether a setting, by its dotted name, has an effect in the phase."""
        group, _, name = setting.partition(".")
        if name.startswith("lr_"):
            return name in self.rates.values()
        if group == "loss" or name == "freeze_pretrained_stats":
            return any(network in self.rates for network in self.required_networks)
        for network, settings in _SETTINGS_OF_NETWORK.items():
            if any(f"{setting}.".startswith(f"{used}.") for used in settings):
                return network in (self.trained_networks if self.asks_others else self.rates)
        return True


_SETTINGS_OF_NETWORK: Mapping[Network, tuple[str, ...]] = {
    "coarse": ("model.coarse_px",),
    "localizer": ("model.learn_scale",),
    "finder": ("model.finder_px",),
    "fine": ("model.window_px", "model.patch_px", "augment.window_shift", "augment.window_scale"),
}
"""Settings, or groups of them, that have an effect only where a network takes part."""

_NO_OTHER_LOSS = {"loss": {"coarse_weight": 0.0, "localizer_weight": 0.0}}

_ROWS = (
    # The coarse network alone, on labels of the whole face.
    Phase(
        name="coarse",
        rates={"coarse": "lr_coarse"},
        epochs="epochs_coarse",
        objective="coarse",
    ),
    # The localizer alone, on the parts' centres, from what the coarse network labels.
    Phase(
        name="localizer",
        starts_from="coarse",
        rates={"localizer": "lr_localizer"},
        epochs="epochs_localizer",
        objective="localizer",
        needs_labels=False,
        selected_by=LOSS,
    ),
    # The fine networks alone, on windows cut where the parts truly are (not in the paper).
    Phase(
        name="fine",
        rates={"fine": "lr_fine"},
        epochs="epochs_fine",
        objective="fine",
        only_chosen_fine=True,
        selected_by=F1_OF_PARTS,
    ),
    # The fine networks, on windows at the centroids of the coarse labels: the two-stage iCNN.
    Phase(
        name="baseline",
        starts_from="coarse",
        rates={"fine": "lr_fine"},
        epochs="epochs_end_to_end",
        objective="end_to_end",
        overrides={**_NO_OTHER_LOSS, "model": {"cropper": "centroid"}},
        in_sweeps=False,
        system="iCNN",
    ),
    # The fine networks, on windows that the localizer finds and is not trained further for.
    Phase(
        name="frozen",
        starts_from="localizer",
        rates={"fine": "lr_fine"},
        epochs="epochs_end_to_end",
        objective="end_to_end",
        overrides=_NO_OTHER_LOSS,
        system="STN-iCNN*",
    ),
    # All networks at once.
    Phase(
        name="end_to_end",
        starts_from="localizer",
        rates={
            "coarse": "lr_coarse_end_to_end",
            "localizer": "lr_localizer_end_to_end",
            "fine": "lr_fine",
        },
        epochs="epochs_end_to_end",
        objective="end_to_end",
        system="STN-iCNN",
    ),
    # The finder, on scenes made of the faces, for a model that is otherwise finished (not in the
    # paper).
    Phase(
        name="finder",
        starts_from="end_to_end",
        rates={"finder": "lr_finder"},
        epochs="epochs_finder",
        objective="finder",
        asks_others=False,
        # Scenes differ much: without the limit, one step at a rate of 5e-3 undid all before it.
        overrides={"optim": {"max_grad_norm": 1.0}},
        selected_by=FACES_FOUND,
        in_sweeps=False,
    ),
)

PHASES: Mapping[str, Phase] = {phase.name: phase for phase in _ROWS}
"""The phases by name, in the order in which a training or a trial may train them."""

SYSTEMS: Mapping[str, PhaseName] = {row.system: row.name for row in _ROWS if row.system}
"""The phases that make the paper's systems."""


def phases_up_to(phase: PhaseName) -> tuple[PhaseName, ...]:
    """Returns a phase after those that it needs, in the order of training."""
    before = PHASES[phase].starts_from
    return (phase,) if before is None else (*phases_up_to(before), phase)


MODEL_PHASES = phases_up_to("end_to_end")
"""The phases that make the paper's model, in the order of training."""


def phases_of_model(config: ModelConfig) -> tuple[PhaseName, ...]:
    """Returns the phases that make a whole model of these settings, in the order of training."""
    return phases_up_to("finder") if config.finder_px else MODEL_PHASES


def system_of(phase: str) -> System:
    """Returns the paper's name for the model of a phase; one not whole yet is called STN-iCNN."""
    return PHASES[phase].system or "STN-iCNN"


def require_usable(given: str, user: str, phase: str, model: ModelConfig) -> None:
    """Refuses a model that labels at random, as a network that it uses has learnt nothing.

    Args:
        given: the model's name, as the message begins.
        user: what is to use the model.
        phase: the phase whose model it is.
        model: its settings; one that cuts around centroids has no localizer to train.

    Raises:
        ValueError: naming the networks and the phases whose models would serve.
    """
    row = SYSTEMS["iCNN"] if model.cropper == "centroid" else SYSTEMS["STN-iCNN"]
    needed, trained = PHASES[row].trained_networks, PHASES[phase].trained_networks
    require_trained(f"{given} is a model of the phase {phase}, but {user}", needed, trained)


def require_trained(
    user: str, needed: Iterable[Network], trained: Collection[str], cure: str = "give a model"
) -> None:
    """Refuses to go on from networks that have learnt nothing.

    Args:
        user: what needs the networks, as the message begins.
        needed: the networks that it needs.
        trained: the networks that are trained.
        cure: what to do, up to the phases whose models would serve.

    Raises:
        ValueError: naming the networks and these phases.
    """
    needed = set(needed)
    missing = [name for name in get_args(Network) if name in needed and name not in trained]
    if missing:
        serve = [phase.name for phase in _ROWS if needed <= set(phase.trained_networks)]
        raise ValueError(
            f"{user} needs {' and '.join(missing)} trained: {cure} of the phase "
            f"{' or '.join(serve)}"
        )
