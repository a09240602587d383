"""What fine-tuning on another data set is given, and what it takes over from the model's settings.

The paper's hybrid strategy (section 3.1) names the data, 2,000 images of CelebAMask-HQ for a model
of HELEN, and no settings.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from cluster.config import JobConfig
from cluster.training.phase_runs import training_of
from stn_icnn.config import LossConfig, OptimConfig, TrainConfig, require

RATES = ("lr_coarse_end_to_end", "lr_localizer_end_to_end", "lr_fine")
RATE_FACTOR = 0.3
"""What a model's rates are multiplied by. Lower, so that the first steps do not undo what it has
learnt; no lower, since there are few steps, and to forget the old data set costs nothing."""


@dataclass(frozen=True, kw_only=True)
class ScratchConfig:
    """Training from scratch for the same time. Sizes, augmentation, images, seed and precision are
    the fine-tuning's."""

    optim: OptimConfig = field(default_factory=OptimConfig)
    """Rates and batch; its `epochs_*` are taken as proportions of the phases, whose real numbers of
    epochs follow from the time. Without anything said: MODEL's own."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What is added to the fine networks' loss. Without anything said: MODEL's own."""


@dataclass(frozen=True, kw_only=True)
class HybridJobConfig(JobConfig):
    """Fine-tuning: MODEL's own settings, its rates of the end-to-end phase times 0.3.

    Its networks are all taken up. Windows, patches, losses, augmentation may be others; the coarse
    network's size may not.
    """

    num_images: int | None = None
    """Images of the training split to train on, chosen by the seed; those of a smaller number are
    among those of a larger one. None: all."""
    compare: bool = False
    """Whether a model is then trained from scratch on the same images for the same time, measured
    as seconds of training."""
    scratch: ScratchConfig = field(default_factory=ScratchConfig)
    """Settings of that."""

    def __post_init__(self) -> None:
        super().__post_init__()
        num = self.num_images
        require(num is None or num >= 1, "num_images", "at least 1, or none for all", num)


def fine_tuning_of(config: TrainConfig) -> HybridJobConfig:
    """The settings that a model's own give; every epoch is validated, for the curve."""
    own = {f.name: getattr(config, f.name) for f in fields(TrainConfig)}
    lower: dict[str, Any] = {
        name: float(f"{getattr(config.optim, name) * RATE_FACTOR:.6g}") for name in RATES
    }
    return HybridJobConfig(
        **{**own, "optim": replace(config.optim, **lower), "validate_every_epochs": 1},
        scratch=ScratchConfig(optim=config.optim, loss=config.loss),
    )


def scratch_of(settings: HybridJobConfig) -> TrainConfig:
    """Settings of the training from scratch; their epochs are proportions."""
    scratch = settings.scratch
    return replace(training_of(settings), optim=scratch.optim, loss=scratch.loss)
