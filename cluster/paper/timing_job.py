"""The job that times both pipelines (paper section 3.1), one face and many at a time."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cluster.job_setup import open_job
from cluster.paper.face_samples import SamplesConfig, load_face_samples
from cluster.paper.measuring_experiment import StudiedModel, run_experiment
from stn_icnn.config import require
from stn_icnn.studies.timing_report import report_timing

NAME: Final = "timing"


@dataclass(frozen=True, kw_only=True)
class TimingConfig(SamplesConfig):
    """The paper's section 3.1: times a model's pipeline, and its networks with the centroid
    cropper, one face and many at a time.

    python jobs/paper.py timing --model MODEL --data OUT
    """

    model: str
    """A checkpoint file or folder, runs:/RUN_ID/PATH, or models:/NAME@ALIAS."""
    num_faces: int = 16
    """Faces that are parsed at a time, beside one (the paper's batches are of 16 a GPU)."""
    rounds: int = 11
    """Times that each is timed, in turn."""

    def __post_init__(self) -> None:
        require(self.num_faces >= 2, "num_faces", "at least 2", self.num_faces)
        require(self.rounds >= 1, "rounds", "at least 1", self.rounds)


def run_timing(config: TimingConfig) -> dict[str, Any]:
    """Times both pipelines and reports milliseconds per face.

    Returns:
        The job's last line: `ms_a_face`, the medians by system and faces at a time, and `ratio`,
        the model's to iCNN's, the median of the rounds, by faces at a time.

    Raises:
        ValueError: for a model or data that can't be used.
        TrackingUnavailableError: where the tracking server is away.
    """
    environment = open_job(config.locations, config.run_name, NAME)
    model = StudiedModel.fetch_trained(
        config.model, environment.tracker.uri, "the experiment", ("localizer", "fine")
    )
    faces = load_face_samples(config.data, config.split, config.num_faces)
    measure = partial(
        report_timing,
        checkpoint=model.checkpoint,
        system=model.system,
        samples=faces.samples,
        dataset=faces.dataset,
        rounds=config.rounds,
    )
    facts = {"data_fingerprint": faces.fingerprint, "model_sha256": model.sha256}
    return run_experiment(NAME, environment, config, facts, measure)
