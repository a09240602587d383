"""The job of Figures 7 and 8, which compares the grid transformer with integer slicing."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cluster.job_setup import open_job
from cluster.paper.face_samples import SamplesConfig, load_face_samples
from cluster.paper.measuring_experiment import run_experiment
from stn_icnn.config import require
from stn_icnn.studies.parity import report_parity

NAME: Final = "parity"


@dataclass(frozen=True, kw_only=True)
class ParityConfig(SamplesConfig):
    """The paper's Figures 7 and 8: compares the model's cropper with integer slicing.

    python jobs/paper.py parity --data OUT
    """

    num_faces: int = 16
    """Faces whose parts are cut."""
    patch_px: tuple[int, ...] = (80, 81, 126, 127)
    """Sides of the patches, px (the paper: 81 for HELEN, 127 for CelebAMask-HQ)."""

    def __post_init__(self) -> None:
        require(self.num_faces >= 1, "num_faces", "at least 1", self.num_faces)
        allowed = bool(self.patch_px) and min(self.patch_px) >= 1
        require(allowed, "patch_px", "one or more sides of at least 1 px", self.patch_px)


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
    faces = load_face_samples(config.data, config.split, config.num_faces)
    measure = partial(
        report_parity, samples=faces.samples, dataset=faces.dataset, sizes=config.patch_px
    )
    facts = {"data_fingerprint": faces.fingerprint}
    return run_experiment(NAME, environment, config, facts, measure)
