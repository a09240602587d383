"""Settings of the finder's job: those of the model that is given one."""

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, ClassVar, Final

from cluster.config import PLACE, UNPREFIXED, TrainingJobConfig
from stn_icnn.checks import require
from stn_icnn.config import ModelConfig, TrainConfig
from stn_icnn.config_dict import differing_settings

FINDER_PX: Final = 128
"""The size of a finder for a model that has none, px."""


def finder_training(model: TrainConfig) -> TrainConfig:
    """Derives the settings of a finder's training from those that a model was trained with."""
    finder_px = model.model.finder_px or FINDER_PX
    return replace(model, model=replace(model.model, finder_px=finder_px))


@dataclass(frozen=True, kw_only=True)
class FinderJobConfig(TrainingJobConfig):
    """The settings of a finder's training: MODEL's own."""

    COMMON_OPTIONS: ClassVar = ("model.finder_px", "optim.epochs_finder", "optim.lr_finder", *PLACE)

    training: Annotated[TrainConfig, UNPREFIXED] = field(
        default_factory=lambda: finder_training(TrainConfig())
    )
    """Everything that the finder depends on, but the data."""


def finder_settings(model: TrainConfig) -> FinderJobConfig:
    """Derives the settings of a finder's job from those that a model was trained with."""
    return FinderJobConfig(training=finder_training(model))


def require_own_networks(config: ModelConfig, model: ModelConfig) -> None:
    """Refuses settings that would change more of a model than its finder.

    Args:
        config: the settings of the model with the finder.
        model: those of the model that is given one.

    Raises:
        ValueError: naming the setting.
    """
    require(config.finder_px > 0, "model.finder_px", "at least 64", config.finder_px)
    others = replace(config, finder_px=model.finder_px, canvas_px=model.canvas_px)
    ours, theirs = asdict(others), asdict(model)
    for name, (given, own) in differing_settings(ours, theirs).items():
        wanted = f"{own}, as the model's: its finder alone is trained"
        require(given == own, f"model.{name}", wanted, given)
