"""A finished training as its report tells it: settings, curves, machines, minutes."""

from dataclasses import asdict
from typing import Final

from cluster.training.setup import Training
from stn_icnn.reporting.run_results import TrainingSummary
from stn_icnn.training.state import SECONDS

FINDER: Final = "finder"
"""The kind of the job that gives a model a finder."""
FINDER_TRAINING: Final = "training of a finder"


def summarise_training(training: Training) -> TrainingSummary:
    """Summarises a training's finished phases, without the curves whose checkpoints are gone."""
    record = training.record
    phases = record.content["finished"]
    history = {}
    for phase in phases:
        try:
            history[phase] = record.history(phase)
        except (ValueError, OSError, RuntimeError) as error:  # no reason to have no report
            print(f"{phase}: the report has no curves of it: {error}", flush=True)
    kind = "fine-tuning" if record.content.get("parent_sha256") else "training"
    seconds = {phase: epochs[-1].get(SECONDS) for phase, epochs in history.items() if epochs}
    return TrainingSummary(
        kind=FINDER_TRAINING if record.content.get("kind") == FINDER else kind,
        base=training.base.name,
        settings=asdict(training.config),
        changed=training.base.changed_by(training.config),
        history=history,
        minutes={phase: value / 60 for phase, value in seconds.items() if value is not None},
        machines={phase: record.computed_on(phase) for phase in phases},
        num_images=training.num_images,
    )
