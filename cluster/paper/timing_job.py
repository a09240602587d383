"""The job that times both pipelines (paper section 3.1), one face and many at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cluster.job_setup import open_job
from cluster.paper.config import TimingConfig
from cluster.paper.face_samples import load_face_samples
from cluster.paper.measuring_experiment import StudiedModel, run_experiment
from stn_icnn.reporting.documents import Block
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.timing_report import report_timing

NAME: Final = "timing"


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
    faces = load_face_samples(
        config.data, config.split, config.num_faces, config.locations.verify_shards
    )

    def measure(folder: Path, about: Sequence[Block]) -> ExperimentResult:
        return report_timing(
            folder,
            model.checkpoint,
            model.system,
            faces.samples,
            faces.dataset,
            config.rounds,
            about,
        )

    facts = {"data_fingerprint": faces.fingerprint, "model_sha256": model.sha256}
    return run_experiment(NAME, environment, config, facts, measure, faces.data, model)
