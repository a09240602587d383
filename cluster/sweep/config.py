"""What a sweep is given beyond a training job: what it searches, how, and what a trial trains."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cluster.config import JobConfig
from stn_icnn.config import PhaseName, require
from stn_icnn.labels import FINE_NETWORKS

Words = tuple[str, ...]
"""A space as on the command line; `spaces.parse_space` reads it. Empty: the field is not searched.
"""


PHASE_ORDER: tuple[PhaseName, ...] = (
    "coarse",
    "localizer",
    "fine",
    "frozen",
    "end_to_end",
)
DEFAULT_SPACES = (
    *(f"optim.{name}=log 1e-4 1e-1" for name in ("lr_coarse", "lr_localizer", "lr_fine")),
    *(f"optim.{name}_end_to_end=log 1e-7 1e-3" for name in ("lr_coarse", "lr_localizer")),
    *(f"model.patch_px.{network}=steps 33 129 2" for network in FINE_NETWORKS),
    *(f"model.window_px.{network}=steps 33 177 2" for network in FINE_NETWORKS),
)
"""They hold the presets' own values."""


@dataclass(frozen=True, kw_only=True)
class PartSpaces:
    """Sizes for the parts of each fine network, px."""

    brow: Words = ()
    """Space of the side for the brows, px."""
    eye: Words = ()
    """Space of the side for the eyes, px."""
    nose: Words = ()
    """Space of the side for the nose, px."""
    mouth: Words = ()
    """Space of the side for the mouth, px."""


@dataclass(frozen=True, kw_only=True)
class ModelSpaces:
    """Sizes of the networks' inputs."""

    coarse_px: Words = ()
    """Space of the side of the coarse network's input, px, even."""
    window_px: PartSpaces = field(default_factory=PartSpaces)
    """Spaces of the windows' sides, px of the image."""
    patch_px: PartSpaces = field(default_factory=PartSpaces)
    """Spaces of the patches' sides, px, odd."""


@dataclass(frozen=True, kw_only=True)
class OptimSpaces:
    """Learning rates (Adam's, no unit) and the batch."""

    lr_coarse: Words = ()
    """Space of the coarse network's rate in its pre-training."""
    lr_localizer: Words = ()
    """Space of the localizer's rate in its pre-training."""
    lr_coarse_end_to_end: Words = ()
    """Space of the coarse network's rate in the end-to-end phase."""
    lr_localizer_end_to_end: Words = ()
    """Space of the localizer's rate in the end-to-end phase."""
    lr_fine: Words = ()
    """Space of the fine networks' rate."""
    global_batch: Words = ()
    """Space of the images a step."""


@dataclass(frozen=True, kw_only=True)
class AugmentSpaces:
    """Strength of the augmentation."""

    rotation_deg: Words = ()
    """Space of the greatest rotation, degrees."""
    shift: Words = ()
    """Space of the greatest shift, share of width and height."""
    scale_min: Words = ()
    """Space of the least scale, a factor."""
    scale_max: Words = ()
    """Space of the greatest scale, a factor."""
    noise_std: Words = ()
    """Space of the noise, share of full brightness."""
    mirror: Words = ()
    """Space of the probability of mirroring."""
    colour: Words = ()
    """Space of the strength of random colours, 0 to 1."""
    window_shift: Words = ()
    """Space of the windows' random shift, share of their side."""
    window_scale: Words = ()
    """Space of the windows' random log factor."""


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """What is searched: a space a setting, by the setting's own name."""

    model: ModelSpaces = field(default_factory=ModelSpaces)
    """Sizes of the networks' inputs."""
    optim: OptimSpaces = field(default_factory=OptimSpaces)
    """Learning rates and the batch."""
    augment: AugmentSpaces = field(default_factory=AugmentSpaces)
    """Strength of the augmentation."""
    other: tuple[str, ...] = ()
    """Of any other settings, by name, each in quotes: 'loss.localizer_weight=log 1 100'. A name
    that stands for four sizes gives all parts one: 'model.patch_px=49 65 81'."""
    default: tuple[str, ...] = DEFAULT_SPACES
    """Searched where no other space is given: those of them that change anything in
    `sweep.phases` and `fine.networks`."""

    def given(self) -> dict[str, Words]:
        """The spaces that are given, by the dotted name of their setting.

        Raises:
            ValueError: for one of `other` that has no `=`, or that is given twice.
        """
        values = asdict(self)
        found = dict(_leaves({name: values[name] for name in ("model", "optim", "augment")}))
        return _named(self.other, "space.other", found)

    def defaults(self) -> dict[str, Words]:
        """The spaces of `default`; errors as of `given`."""
        return _named(self.default, "space.default", {})


def _named(texts: Sequence[str], what: str, found: Mapping[str, Words]) -> dict[str, Words]:
    """Spaces that are written NAME=SPACE, added to others."""
    spaces = dict(found)
    for text in texts:
        name, is_one, space = text.partition("=")
        require(bool(is_one), what, "NAME=SPACE", repr(text))
        require(name.strip() not in spaces, what, "of settings given once", name)
        spaces[name.strip()] = tuple(space.split())
    return spaces


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Words]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        elif value:
            yield f"{path}{name}", value


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """How a sweep searches, and what a trial trains."""

    phases: tuple[PhaseName, ...] = ("fine",)
    """Phases that each trial trains, in this order: coarse, localizer, fine, frozen, end_to_end; by
    the last it is judged and pruned."""
    start: str | None = None
    """Model that trials start from: a checkpoint file or folder, runs:/… or models:/…. Networks
    that it has trained are taken from it. None: freshly initialised ones."""
    search: Literal["optuna", "random", "grid"] = "optuna"
    """`optuna`: TPE, which learns from the trials before. `grid`: every combination."""
    scheduler: Literal["asha", "none"] = "asha"
    """`asha` stops trials that are behind the others after as many epochs. `none`: each trains to
    its end."""
    grace_epochs: int = 1
    """Epochs after which ASHA first compares."""
    reduction_factor: int = 3
    """One of so many trials goes on at each of ASHA's comparisons, which lie this factor of epochs
    apart."""
    random_trials: int = 8
    """Trials before TPE begins to learn from them."""
    search_seed: int = 0
    """Of the search; the trainings have `seed`."""
    max_concurrent: int | Literal["auto"] = "auto"
    """Trials at a time, at most. `auto`: as many as the cluster holds."""

    def __post_init__(self) -> None:
        in_order = tuple(phase for phase in PHASE_ORDER if phase in self.phases)
        require(
            len(in_order) > 0 and in_order == self.phases,
            "sweep.phases",
            f"one or more of {', '.join(PHASE_ORDER)}, in this order, each once",
            " ".join(self.phases) or "none",
        )
        for name, least in (
            ("grace_epochs", 1),
            ("reduction_factor", 2),
            ("random_trials", 1),
            ("search_seed", 0),
        ):
            value = getattr(self, name)
            require(value >= least, f"sweep.{name}", f"at least {least}", value)
        most = self.max_concurrent
        require(most == "auto" or most >= 1, "sweep.max_concurrent", "auto or at least 1", most)


@dataclass(frozen=True, kw_only=True)
class SweepJobConfig(JobConfig):
    """A sweep: what a training job is given, and what is searched around it.

    `scaling` is what one trial takes, `auto` being one worker with one CPU (and a GPU where there
    are any); `scaling.max_failures` is how often a trial is tried again.
    """

    num_trials: int = 20
    """Settings that are tried; all that the spaces hold, where those are fewer."""
    seeds: int = 1
    """Trainings of each setting that came to its end, with seeds one apart; the report has their
    mean, deviation and interval."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    """How it searches, and what a trial trains."""
    space: SpaceConfig = field(default_factory=SpaceConfig)
    """What it searches. A space is `log LOW HIGH`, `uniform LOW HIGH`, `steps LOW HIGH STEP`, or
    the values themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_trials >= 1, "num_trials", "at least 1", self.num_trials)
        require(self.seeds >= 1, "seeds", "at least 1", self.seeds)
        grace, epochs = self.sweep.grace_epochs, self.optim.epochs(self.sweep.phases[-1])
        require(
            self.sweep.scheduler == "none" or grace <= epochs,
            "sweep.grace_epochs",
            f"at most optim.epochs_{self.sweep.phases[-1]} = {epochs}",
            grace,
        )
