"""A finished training as its report tells it: settings, curves, machines, minutes."""

from dataclasses import asdict, dataclass
from typing import Self

from cluster.training.setup import Training
from stn_icnn.config import PRESETS, TrainConfig
from stn_icnn.config_dict import differing_settings
from stn_icnn.reporting.run_results import TrainingSummary
from stn_icnn.training.state import SECONDS


@dataclass(frozen=True)
class BaseSettings:
    """The settings that those of a training started from."""

    name: str
    config: TrainConfig

    @classmethod
    def of_preset(cls, preset: str) -> Self:
        """Returns the settings of a preset; of a `--config` file's name, the defaults."""
        if preset in PRESETS:
            return cls(f"the preset {preset}", PRESETS[preset]())
        return cls("the defaults", TrainConfig())


def summarise_training(training: Training, base: BaseSettings) -> TrainingSummary:
    """Summarises a training's finished phases, without the curves whose checkpoints are gone."""
    record, settings = training.record, asdict(training.config)
    phases = record.content["finished"]
    history = {}
    for phase in phases:
        try:
            history[phase] = record.history(phase)
        except (ValueError, OSError, RuntimeError) as error:  # no reason to have no report
            print(f"{phase}: the report has no curves of it: {error}", flush=True)
    seconds = {phase: epochs[-1].get(SECONDS) for phase, epochs in history.items() if epochs}
    return TrainingSummary(
        kind="fine-tuning" if record.content.get("parent_sha256") else "training",
        base=base.name,
        settings=settings,
        changed=differing_settings(settings, asdict(base.config)),
        history=history,
        minutes={phase: value / 60 for phase, value in seconds.items() if value is not None},
        machines={phase: record.computed_on(phase) for phase in phases},
        num_images=training.num_images,
    )
