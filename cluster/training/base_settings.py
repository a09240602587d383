"""What the settings of a training are compared with: a preset's, the defaults, or a model's."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from stn_icnn.config import TrainConfig
from stn_icnn.config_dict import differing_settings
from stn_icnn.presets import PRESETS
from stn_icnn.reporting.run_results import ComparedSettings


@dataclass(frozen=True)
class BaseSettings:
    """The settings that those of a training are compared with."""

    name: str
    """The name of their owner: `the preset demo`, `the defaults`, or `the model PATH`."""
    config: TrainConfig

    @classmethod
    def of_preset(cls, preset: str) -> Self:
        """Returns the settings of a preset; the defaults, where it is the name of something else.

        Args:
            preset: the name of what the settings of a job started from, as `parse_job` returns it.
        """
        if preset in PRESETS:
            return cls(preset_in_words(preset), PRESETS[preset]())
        return cls("the defaults", TrainConfig())

    @classmethod
    def of_model(cls, model: str, config: TrainConfig) -> Self:
        """Returns the settings that a model was trained with.

        Args:
            model: the model, as it was given.
            config: its settings.
        """
        return cls(f"the model {model}", config)

    def compare(self, config: TrainConfig) -> ComparedSettings:
        """Returns the settings of a training beside these."""
        return ComparedSettings(self.name, self.changed_by(config), asdict(config))

    def changed_by(self, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
        """Returns the settings in which a training differs, by dotted name: its own and these."""
        return differing_settings(asdict(config), asdict(self.config))


def preset_in_words(preset: str) -> str:
    """Returns the name of what a job's settings started from, for sentences.

    Args:
        preset: a preset's name, or `settings of FILE`.
    """
    return f"the preset {preset}" if preset in PRESETS else preset
