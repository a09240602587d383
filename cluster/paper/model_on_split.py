"""What the experiments share that try one model on all faces of a split."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cluster.job_setup import open_job
from cluster.paper.experiment import ExperimentConfig, OpenedModel, open_model, run_experiment
from cluster.storage.datasets import ShardedData
from cluster.storage.sharded_faces import read_faces, unlimited_canvas
from stn_icnn.config import Network, require
from stn_icnn.context import LocalContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.progress import progress
from stn_icnn.scoring.confusion import evaluation_batches
from stn_icnn.studies.experiment_result import ExperimentResult


@dataclass(frozen=True, kw_only=True)
class SplitConfig(ExperimentConfig):
    """A job that tries a model on the faces of a split."""

    model: str
    """A model with a trained localization network (`windows` needs its fine networks too): a
    checkpoint file or folder, runs:/RUN_ID/PATH, or models:/NAME@ALIAS."""
    data: str
    """Shards: a folder or s3://BUCKET/PREFIX."""
    split: Literal["train", "val", "test"] = "test"
    """Which split of them."""
    num_faces: int | None = None
    """Faces of the split that are taken, from its start. None: all."""

    def __post_init__(self) -> None:
        fit = self.num_faces is None or self.num_faces >= 1
        require(fit, "num_faces", "at least 1, or none for all", self.num_faces)


@dataclass(frozen=True)
class ModelOnSplit:
    """A model and the faces that it is tried on."""

    model: OpenedModel
    faces: ShardedFaces
    dataset: str
    """Name of the data set."""
    split: str

    @property
    def about(self) -> str:
        """The faces, for a sentence to begin with."""
        return f"{len(self.faces)} faces of the {self.split} split of {self.dataset}"


def batches_of(faces: ShardedFaces) -> Iterator[Batch]:
    """The faces with their truth, in order, on the CPU; shows how far it is."""
    batches = (batch for _, batch in evaluation_batches(faces, LocalContext()))
    return progress(batches, len(faces), "face", len)


def run_on_split(
    name: str,
    config: SplitConfig,
    needed: Sequence[Network],
    work: Callable[[ModelOnSplit, Path], ExperimentResult],
) -> dict[str, Any]:
    """Does an experiment with a model on a split, as `run_experiment` does it.

    Args:
        name: of the experiment.
        config: all of the job's settings.
        needed: networks of the model that must have been trained.
        work: the experiment; writes its files into a folder.

    Returns:
        The job's last line, as `run_experiment` gives it.

    Raises:
        ValueError: for a model or data that can't be used, or naming the settings in which the run
            of this name was started otherwise.
        TrackingUnavailableError: where the tracking server is away.
    """
    environment = open_job(config.locations, config.run_name, name)
    data = ShardedData.open(config.data)
    shards = data.shards(config.split)
    model = open_model(config.model, environment.tracker.uri, needed)

    def on_faces(folder: Path) -> ExperimentResult:
        faces = read_faces(
            shards, data.manifest.label_set, unlimited_canvas(model.checkpoint.config)
        )
        faces.samples = faces.samples[: config.num_faces]
        return work(ModelOnSplit(model, faces, data.name, config.split), folder)

    facts = {"data_fingerprint": data.manifest.fingerprint, "model_sha256": model.sha256}
    return run_experiment(name, environment, config, facts, on_faces)
