"""The experiments that train: each is one run, whose children are trainings of their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cluster.config import TrainingJobConfig
from cluster.job_ending import parse_command, print_ending
from cluster.job_setup import open_job
from cluster.paper.systems import expect, train_and_score
from cluster.run_notes import (
    log_f1,
    log_machines,
    origin_sentence,
    result_note,
    unfinished_note,
)
from cluster.tracking.mlflow_model import MODEL_ARTIFACT, log_mlflow_model
from cluster.tracking.result_files import EXPERIMENT_REPORT, closing_blocks, publishing
from cluster.training.phase_training import log_config
from cluster.training.setup import Training, child_training, open_training
from cluster.training.summary import summarise_training
from stn_icnn.config import TrainConfig
from stn_icnn.reporting.documents import Block
from stn_icnn.reporting.run_results import sum_if_known
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.training.phases import SYSTEMS, System


@dataclass(frozen=True)
class Variant:
    """One of the trainings of an experiment."""

    name: str
    """What its folder, and its run after the experiment's, are called."""
    description: str
    """What tells it from the others, in a line."""
    config: TrainConfig
    """Its settings."""


CountsByTraining = Mapping[int, Mapping[str, Tensor]]
"""Confusion counts of each test image, int64 `[M, C, C]`, by the training's key and by system."""
TrainingsReport = Callable[[Path, Training, CountsByTraining, Sequence[Block]], ExperimentResult]
"""A function that writes a report into a folder: of an experiment, the counts of its trainings so
far, and the blocks that the report ends with."""


def run_training_experiment(
    name: str,
    settings: TrainingJobConfig,
    preset: str,
    systems: Sequence[System],
    variants: Mapping[int, Variant],
    write_report: TrainingsReport,
) -> dict[str, Any]:
    """Trains and scores systems in several trainings; the report is written anew after each.

    Args:
        name: name of the experiment.
        settings: the job's settings.
        preset: name of the preset that they started from.
        systems: the systems that each training makes.
        variants: the trainings, by their keys in the report.
        write_report: the report.

    Returns:
        The job's last line: the run, its storage, its data, and the report's result.

    Raises:
        ValueError: for settings, data or resources that can't be used, before any training.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where a loss is not finite any more, or workers failed too often.
    """
    environment = open_job(settings.locations, settings.run_name, f"{name}-{preset}")
    tags = {"kind": "paper", "experiment": name}
    experiment = open_training(settings, preset, environment, kind=name, tags=tags)
    run, counts = experiment.run, dict[int, Mapping[str, Tensor]]()
    with run.finishing():
        log_config(run, experiment.config)
        run.describe(unfinished_note(run.name))
        closing = closing_blocks(run, experiment.base.compare(experiment.config))
        trainings = {
            key: child_training(experiment, variant.name, variant.config)
            for key, variant in variants.items()
        }
        for training in trainings.values():
            expect(training, systems)
        for key, training in trainings.items():
            print(variants[key].description, flush=True)
            counts[key] = train_and_score(training, systems)
            with publishing(run, experiment.record.storage) as folder:
                found = write_report(folder, experiment, counts, closing)
            run.log_metrics(found.metrics, step=len(counts))
        next_steps = _conclude(experiment, trainings, found)
    print_ending(run, found.headline, next_steps, {"report": EXPERIMENT_REPORT})
    return run.last_line(
        {
            "storage": experiment.record.storage.url,
            "data_fingerprint": experiment.data.manifest.fingerprint,
            **found.result,
        }
    )


def _conclude(
    experiment: Training, trainings: Mapping[int, Training], found: ExperimentResult
) -> dict[str, str]:
    """Stores the best model, and lists what came of it; returns the commands that go on."""
    assert found.best is not None
    assert found.f1 is not None
    run, (key, system) = experiment.run, found.best
    log_mlflow_model(run, trainings[key].record.model(SYSTEMS[system]))
    summaries = [summarise_training(training) for training in trainings.values()]
    minutes = sum_if_known(one.total_minutes for one in summaries)
    machines = [machine for one in summaries for machine in one.all_machines]
    step = len(trainings)  # a metric of a step counts once, and an experiment may go on with more
    log_f1(run, "test", found.f1, experiment.config.model.label_set, step=step)
    run.log_metrics({"test/images": experiment.data.manifest.num_samples["test"]}, step=0)
    log_machines(run, machines, minutes, step=step)
    origin = origin_sentence("Trained", experiment.num_images, minutes, machines)
    next_steps = {"parse": parse_command(run, f"runs:/{run.run_id}/{MODEL_ARTIFACT}")}
    run.describe(result_note(found.headline, origin, next_steps))
    return next_steps
