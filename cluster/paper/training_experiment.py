"""What the experiments share that train: one run, whose children are trainings of their own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cluster.config import TrainingJobConfig
from cluster.job_setup import open_job
from cluster.training.phase_runs import Training, log_config, open_training


@contextmanager
def training_experiment(name: str, settings: TrainingJobConfig, preset: str) -> Iterator[Training]:
    """Opens an experiment's run; what it branches into is trained while the context is open.

    Args:
        name: of the experiment.
        settings: all of the job's.
        preset: that they started from, for the record.

    Raises:
        ValueError: for settings, data or resources that can't be used, before any training.
        TrackingUnavailableError: where the tracking server is away.
    """
    environment = open_job(settings.locations, settings.run_name, f"{name}-{preset}")
    whole = open_training(settings, preset, environment, kind=name)
    with whole.run.finishing():
        whole.run.set_tags({"kind": "paper", "experiment": name})
        log_config(whole.run, whole.config)
        yield whole


def last_line(whole: Training, found: Mapping[str, Any]) -> dict[str, Any]:
    """The job's last line: where the run and its data are, and what it found."""
    return whole.run.tracker.last_line(
        {
            "run_id": whole.run.run_id,
            "run_name": whole.run.name,
            "storage": whole.record.storage.url,
            "data_fingerprint": whole.data.manifest.fingerprint,
            **found,
        }
    )
