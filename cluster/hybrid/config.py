"""Settings of the hybrid job: a model's own, changed for fine-tuning it on another data set.

The paper's hybrid strategy (section 3.1) names the data, 2,000 images of CelebAMask-HQ for a model
of HELEN, and no settings.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from cluster.config import PLACE, TrainingJobConfig
from stn_icnn.checks import require
from stn_icnn.config import LossConfig, OptimConfig, TrainConfig
from stn_icnn.training.phases import PHASES

LOWERED_RATES = tuple(PHASES["end_to_end"].rates.values())
RATE_FACTOR = 0.3
"""The factor on a model's rates. It is below 1, so that the first steps do not undo what the model
has learnt; no lower, since there are few steps, and forgetting the old data set costs nothing."""


@dataclass(frozen=True, kw_only=True)
class ScratchConfig:
    """The training from scratch that fine-tuning is compared with. Sizes, augmentation, images,
    seed and precision are the fine-tuning's."""

    optim: OptimConfig = field(default_factory=OptimConfig)
    """Rates and batch; its `epochs_*` are taken as proportions of the phases, whose real numbers of
    epochs follow from the time. Default: MODEL's own."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What is added to the fine networks' loss. Default: MODEL's own."""


@dataclass(frozen=True, kw_only=True)
class HybridJobConfig(TrainingJobConfig):
    """The settings of a fine-tuning: MODEL's own, its rates of the end-to-end phase times 0.3.

    All of MODEL's networks are trained further, so the coarse network's size must stay as it is;
    windows, patches, losses and augmentation may change.
    """

    COMMON_OPTIONS: ClassVar = ("num_images", "compare", *PLACE, "scaling.num_workers")

    num_images: int | None = None
    """Images of the training split to train on, chosen by the seed; those of a smaller number are
    among those of a larger one. None: all."""
    compare: bool = False
    """Whether a model is then trained from scratch on the same images for the same time, measured
    as seconds of training."""
    scratch: ScratchConfig = field(default_factory=ScratchConfig)
    """The training from scratch."""

    def __post_init__(self) -> None:
        num = self.num_images
        require(num is None or num >= 1, "num_images", "at least 1, or none for all", num)

    @property
    def scratch_training(self) -> TrainConfig:
        """Settings of the training from scratch; their epochs are proportions."""
        return replace(self.training, optim=self.scratch.optim, loss=self.scratch.loss)


def fine_tuning_settings(model: TrainConfig) -> HybridJobConfig:
    """Derives the settings of a fine-tuning from those that a model was trained with.

    Every epoch is validated, for the curve.
    """
    lower: dict[str, Any] = {
        name: float(f"{getattr(model.optim, name) * RATE_FACTOR:.6g}") for name in LOWERED_RATES
    }
    optim = replace(model.optim, **lower)
    return HybridJobConfig(
        training=replace(model, optim=optim, validate_every_epochs=1),
        scratch=ScratchConfig(optim=model.optim, loss=model.loss),
    )
