"""The job of Figures 7 and 8, which compares the grid transformer with integer slicing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cluster.job_setup import open_job
from cluster.paper.config import ParityConfig
from cluster.paper.face_samples import load_face_samples
from cluster.paper.measuring_experiment import run_experiment
from stn_icnn.reporting.documents import Block
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.parity import report_parity

NAME: Final = "parity"


def run_parity(config: ParityConfig) -> dict[str, Any]:
    """Cuts patches both ways and reports how far they differ.

    Returns:
        The job's last line: `largest_difference`, in levels of 255, by patch size, of patches
        centred on a pixel.

    Raises:
        ValueError: for data that can't be used.
        TrackingUnavailableError: where the tracking server is away.
    """
    environment = open_job(config.locations, config.run_name, NAME)
    faces = load_face_samples(
        config.data, config.split, config.num_faces, config.locations.verify_shards
    )

    def measure(folder: Path, about: Sequence[Block]) -> ExperimentResult:
        return report_parity(folder, faces.samples, faces.dataset, config.patch_px, about)

    facts = {"data_fingerprint": faces.fingerprint}
    return run_experiment(NAME, environment, config, facts, measure, faces.data)
