"""The job of Figure 6, which compares both pipelines by the size of the coarse network's input."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from cluster.paper.config import CoarseSizeConfig
from cluster.paper.systems import phases_of, train_and_score
from cluster.paper.training_experiment import last_line, training_experiment
from cluster.tracking.result_files import publishing
from cluster.training.setup import child_training
from stn_icnn.studies.coarse_size_report import write_coarse_size
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
    counts: dict[int, Mapping[str, Tensor]] = {}
    with training_experiment("coarse-size", settings, preset) as experiment:
        config, trainings = experiment.config, {}
        for px in settings.sizes:
            sized = replace(config, model=replace(config.model, coarse_px=px))
            trainings[px] = child_training(experiment, f"coarse-{px}", sized)
            trainings[px].expect(phases_of(SYSTEMS))
        for px, training in trainings.items():
            print(f"coarse input of {px} px", flush=True)
            counts[px] = train_and_score(training, SYSTEMS)
        title = f"{experiment.run.name}: size of the coarse input, {experiment.data.name}"
        with publishing(experiment.run, experiment.record.storage) as folder:
            result = write_coarse_size(folder, title, SYSTEMS, counts, config.model.label_set)
    return last_line(experiment, result)
