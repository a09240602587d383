"""The job of Figures 7 and 8: patches cut by the grid transformer beside integer slicing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from cluster.job_setup import open_job
from cluster.paper.experiment import ExperimentConfig, run_experiment
from cluster.paper.few_faces import few_faces
from stn_icnn.config import require
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.parity_report import report_parity

NAME: Final = "parity"


@dataclass(frozen=True, kw_only=True)
class ParityConfig(ExperimentConfig):
    """The paper's Figures 7 and 8: compares the model's cropper with integer slicing.

    python jobs/paper.py parity --data OUT
    """

    data: str | None = None
    """Shards: a folder or s3://BUCKET/PREFIX. None: faces are drawn."""
    split: Literal["train", "val", "test"] = "test"
    """Which split of them."""
    num_faces: int = 16
    """Faces whose parts are cut."""
    patch_px: tuple[int, ...] = (80, 81, 126, 127)
    """Sides of the patches, px (the paper: 81 for HELEN, 127 for CelebAMask-HQ)."""

    def __post_init__(self) -> None:
        require(self.num_faces >= 1, "num_faces", "at least 1", self.num_faces)
        fit = bool(self.patch_px) and min(self.patch_px) >= 1
        require(fit, "patch_px", "one or more sides of at least 1 px", self.patch_px)


def run_parity(config: ParityConfig) -> dict[str, Any]:
    """The job.

    Returns:
        Its last line: `largest_difference`, in levels of 255, by patch size, of patches centred on
        a pixel.

    Raises:
        ValueError: for data that can't be used.
        TrackingUnavailableError: where the tracking server is away.
    """
    environment = open_job(config.locations, config.run_name, NAME)
    faces = few_faces(config.data, config.split, config.num_faces)
    facts = {"data_fingerprint": faces.fingerprint}

    def measure(folder: Path) -> ExperimentResult:
        return report_parity(folder, faces.samples, faces.name, config.patch_px)

    return run_experiment(NAME, environment, config, facts, measure)
