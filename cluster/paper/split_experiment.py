"""The measuring experiments that try one model on all faces of a split."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.job_setup import open_job
from cluster.paper.config import SplitConfig
from cluster.paper.measuring_experiment import StudiedModel, run_experiment
from cluster.storage.datasets import ShardedData
from cluster.storage.sharded_faces import read_faces, unlimited_canvas
from stn_icnn.config import Network
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.networks.execution import default_device, describe_execution
from stn_icnn.reporting.documents import Block
from stn_icnn.studies.experiment_result import ExperimentResult

SplitMeasurement = Callable[
    [StudiedModel, ShardedFaces, str, Path, Sequence[Block]], ExperimentResult
]
"""A function that measures a model on faces, which the third argument names for a sentence to begin
with, and writes its files into a folder; its report ends with the blocks."""


def run_split_experiment(
    name: str, config: SplitConfig, needed: Sequence[Network], measure: SplitMeasurement
) -> dict[str, Any]:
    """Runs an experiment with a model on a split, as `run_experiment` does.

    Args:
        name: name of the experiment.
        config: the job's settings.
        needed: networks of the model that must be trained.
        measure: the measurement.

    Returns:
        The job's last line, as `run_experiment` returns it.

    Raises:
        ValueError: for a model or data that can't be used, or naming the settings in which the run
            of this name was started otherwise.
        TrackingUnavailableError: where the tracking server is away.
    """
    environment = open_job(config.locations, config.run_name, name)
    data = ShardedData.open(config.data, verify_shards=config.locations.verify_shards)
    data.shards(config.split)  # refuses an empty split before the model is fetched
    model = StudiedModel.fetch_trained(
        config.model, environment.tracker.uri, "the experiment", needed
    )

    def measure_split(folder: Path, about: Sequence[Block]) -> ExperimentResult:
        faces = read_faces(data, config.split, unlimited_canvas(model.checkpoint.config))
        faces.samples = faces.samples[: config.num_faces]
        subject = f"{len(faces)} faces of the {config.split} split of {data.name}"
        result = measure(model, faces, subject, folder, about)
        machine = describe_execution(model.checkpoint.model, default_device())
        return replace(result, machine=machine)

    facts = {"data_fingerprint": data.manifest.fingerprint, "model_sha256": model.sha256}
    return run_experiment(name, environment, config, facts, measure_split, data, model)
