"""The presets: settings of a training by name, to begin with."""

from typing import Final

from stn_icnn.config import (
    AugmentConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    same_size,
)


def demo() -> TrainConfig:
    """Returns settings for minutes on a laptop and procedural faces: small patches, small steps."""
    return TrainConfig(
        model=ModelConfig(
            coarse_px=64,
            window_px={"brow": 65, "eye": 57, "nose": 97, "mouth": 97},
            patch_px={"brow": 37, "eye": 37, "nose": 37, "mouth": 49},
        ),
        augment=AugmentConfig(operations=False, mirror=0.5, window_shift=0.05),
        optim=OptimConfig(
            lr_coarse=5e-3,
            lr_localizer=2e-3,
            lr_fine=1e-2,
            epochs_coarse=13,
            epochs_localizer=6,
            epochs_end_to_end=11,
            global_batch=8,
            schedule="one_cycle",
        ),
        loss=LossConfig(coarse_weight=1.0, localizer_weight=10.0),
        validate_every_epochs=2,
    )


def helen() -> TrainConfig:
    """Returns the paper's settings for HELEN (Table 1): 81 px for all parts, batches of 32."""
    return TrainConfig()


def celebamask() -> TrainConfig:
    """Returns the paper's settings for CelebAMask-HQ (Table 1): 127 px, batches of 64."""
    return TrainConfig(
        model=ModelConfig(window_px=same_size(127), patch_px=same_size(127)),
        optim=OptimConfig(
            lr_coarse=1e-3,
            lr_localizer=1e-3,
            lr_coarse_end_to_end=1e-6,
            lr_localizer_end_to_end=1e-6,
            lr_fine=1e-3,
            global_batch=64,
        ),
    )


def celebamask_tuned() -> TrainConfig:
    """Returns our own settings for CelebAMask-HQ, those of the model in `models/celebamask`.

    Windows and patches fit their parts. The coarse network and the localizer keep losses of their
    own in the end-to-end phase, whose training windows are jittered.
    """
    return TrainConfig(
        model=ModelConfig(
            window_px={"brow": 129, "eye": 73, "nose": 145, "mouth": 175},
            patch_px={"brow": 81, "eye": 73, "nose": 73, "mouth": 95},
            finder_px=128,
        ),
        augment=AugmentConfig(
            rotation_deg=10.0,
            shift=0.05,
            scale_min=0.9,
            scale_max=1.1,
            noise_std=0.02,
            mirror=0.5,
            colour=0.2,
            exposure=1.0,
            window_shift=0.03,
            window_scale=0.05,
        ),
        optim=OptimConfig(
            lr_coarse=5e-3,
            lr_localizer=2e-3,
            lr_fine=2e-3,
            epochs_coarse=10,
            epochs_localizer=10,
            epochs_end_to_end=12,
            global_batch=8,
            schedule="one_cycle",
        ),
        loss=LossConfig(coarse_weight=1.0, localizer_weight=300.0),
        validate_every_epochs=4,
    )


PRESETS: Final = {
    "demo": demo,
    "helen": helen,
    "celebamask": celebamask,
    "celebamask-tuned": celebamask_tuned,
}
"""The functions that make the presets, by name."""
