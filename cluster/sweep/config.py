"""Settings of a sweep beyond those of a training job: what is searched, how, and by what trials."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from tyro.conf import UseAppendAction, arg

from cluster.config import PLACE, TrainingJobConfig, require_in_order
from stn_icnn.checks import require
from stn_icnn.label_sets import PAPER9
from stn_icnn.training.phases import PHASES, PhaseName

PHASE_ORDER = tuple(phase.name for phase in PHASES.values() if phase.in_sweeps)
"""The phases that a trial may train, in their order."""
DEFAULT_SPACES = (
    *(f"optim.{name}=log 1e-4 1e-1" for name in ("lr_coarse", "lr_localizer", "lr_fine")),
    *(f"optim.{name}_end_to_end=log 1e-7 1e-3" for name in ("lr_coarse", "lr_localizer")),
    *(f"model.patch_px.{network}=steps 33 129 2" for network in PAPER9.fine_networks),
    *(f"model.window_px.{network}=steps 33 177 2" for network in PAPER9.fine_networks),
)
"""The spaces that are searched where none is given; they hold the presets' own values."""

SPACE_HELP = f"""\
What to search, once for each setting. NAME is the setting's dotted name; SPACE is log LOW HIGH, \
uniform LOW HIGH, steps LOW HIGH STEP, or two or more values.
Examples: 'optim.lr_fine=log 1e-3 1e-1', 'model.patch_px.eye=33 49 65'. The name of a group of \
sizes gives all parts the same: 'model.patch_px=49 65 81'.
Without any, those of these are searched that change anything in sweep.phases and fine.networks: \
{", ".join(f"'{text}'" for text in DEFAULT_SPACES)}."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Settings of the search, and of what a trial trains."""

    phases: tuple[PhaseName, ...] = ("fine",)
    """Phases that each trial trains, in this order: coarse, localizer, fine, frozen, end_to_end.
    The validation metric of the last one is the trial's score."""
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
    """Seed of the search; the trainings have `seed`."""
    max_concurrent: int | Literal["auto"] = "auto"
    """Trials at a time, at most. `auto`: as many as the cluster holds."""

    def __post_init__(self) -> None:
        require_in_order("sweep.phases", self.phases, PHASE_ORDER)
        least = {"grace_epochs": 1, "reduction_factor": 2, "random_trials": 1, "search_seed": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            require(value >= lowest, f"sweep.{name}", f"at least {lowest}", value)
        most = self.max_concurrent
        require(most == "auto" or most >= 1, "sweep.max_concurrent", "auto or at least 1", most)


@dataclass(frozen=True, kw_only=True)
class SweepJobConfig(TrainingJobConfig):
    """Settings of a sweep: those of a training job, and what is searched around them.

    `scaling` is what one trial takes. Its `auto` is one worker with one CPU, and a GPU where there
    are any; `scaling.max_failures` is how often a trial is tried again.
    """

    COMMON_OPTIONS: ClassVar = ("num_trials", "seeds", "space", "sweep.phases", *PLACE)

    num_trials: int = 20
    """Combinations of values that are tried. All that there are, where those are
    fewer."""
    seeds: int = 1
    """Trainings, with seeds one apart, of each combination whose first one was not stopped. The
    report has their mean, deviation and interval."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    """How the sweep searches, and what a trial trains."""
    space: Annotated[
        tuple[str, ...], UseAppendAction, arg(metavar="NAME=SPACE", help=SPACE_HELP)
    ] = ()
    """What is searched: a space for each of some settings, `NAME=SPACE`, as
    `searched_settings.read_search_space` reads them."""

    def __post_init__(self) -> None:
        require(self.num_trials >= 1, "num_trials", "at least 1", self.num_trials)
        require(self.seeds >= 1, "seeds", "at least 1", self.seeds)
        last = PHASES[self.sweep.phases[-1]]
        grace, epochs = self.sweep.grace_epochs, last.num_epochs(self.training.optim)
        require(
            self.sweep.scheduler == "none" or grace <= epochs,
            "sweep.grace_epochs",
            f"at most optim.{last.epochs} = {epochs}",
            grace,
        )
