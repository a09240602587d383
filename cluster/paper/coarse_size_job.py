"""The job of Figure 6, which compares both pipelines by the size of the coarse network's input."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.paper.config import CoarseSizeConfig
from cluster.paper.training_experiment import (
    CountsByTraining,
    Variant,
    run_training_experiment,
)
from cluster.training.setup import Training
from stn_icnn.reporting.documents import Block
from stn_icnn.studies.coarse_size_report import write_coarse_size
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.training.phases import System

SYSTEMS: tuple[System, ...] = ("iCNN", "STN-iCNN")


def run_coarse_size(settings: CoarseSizeConfig, preset: str) -> dict[str, Any]:
    """Trains and scores the two-stage iCNN and STN-iCNN with each size.

    Args:
        settings: the job's settings.
        preset: name of the preset that they started from.

    Returns:
        The job's last line: `run_id`, `run_name`, `overall` by size and system, `differences` of
        other sizes to the first (paired), `storage`, …

    Raises:
        ValueError: for settings, data or resources that can't be used, before any training.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where a loss is not finite any more, or workers failed too often.
    """
    config = settings.training

    def write_report(
        folder: Path, experiment: Training, counts: CountsByTraining, about: Sequence[Block]
    ) -> ExperimentResult:
        title = f"{experiment.run.name}: size of the coarse input, {experiment.data.name}"
        label_set = config.model.label_set
        return write_coarse_size(folder, title, SYSTEMS, counts, label_set, about)

    variants = {
        px: Variant(
            f"coarse-{px}",
            f"coarse input of {px} px",
            replace(config, model=replace(config.model, coarse_px=px)),
        )
        for px in settings.sizes
    }
    return run_training_experiment("coarse-size", settings, preset, SYSTEMS, variants, write_report)
