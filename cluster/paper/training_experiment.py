"""The experiments that train: each is one run, whose children are trainings of their own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cluster.config import TrainingJobConfig
from cluster.job_ending import print_ending
from cluster.job_setup import open_job
from cluster.tracking.result_files import EXPERIMENT_REPORT
from cluster.training.phase_training import log_config
from cluster.training.setup import Training, open_training


@contextmanager
def training_experiment(name: str, settings: TrainingJobConfig, preset: str) -> Iterator[Training]:
    """Yields an experiment's run, to branch trainings from, and finishes the run afterwards.

    Args:
        name: name of the experiment.
        settings: the job's settings.
        preset: name of the preset that they started from.

    Raises:
        ValueError: for settings, data or resources that can't be used, before any training.
        TrackingUnavailableError: where the tracking server is away.
    """
    environment = open_job(settings.locations, settings.run_name, f"{name}-{preset}")
    experiment = open_training(settings, preset, environment, kind=name)
    with experiment.run.finishing():
        experiment.run.set_tags({"kind": "paper", "experiment": name})
        log_config(experiment.run, experiment.config)
        yield experiment


def last_line(experiment: Training, result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the job's last line: the run, its storage, its data, and the result.

    Before it, the end of the job is printed for people.
    """
    print_ending(
        experiment.run, f"{experiment.run.name} is done", {}, {"report": EXPERIMENT_REPORT}
    )
    return experiment.run.last_line(
        {
            "storage": experiment.record.storage.url,
            "data_fingerprint": experiment.data.manifest.fingerprint,
            **result,
        }
    )
