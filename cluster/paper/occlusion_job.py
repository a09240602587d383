"""The job of Figure 5, which compares both croppers on faces of which parts are covered."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster.paper.measuring_experiment import StudiedModel
from cluster.paper.split_experiment import SplitConfig, run_split_experiment
from stn_icnn.config import require
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import PAPER9
from stn_icnn.studies.cropper_comparison import CropperComparison
from stn_icnn.studies.croppers import AVERAGE_FACE
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.occlusion_report import report_occlusion

NAME: Final = "occlusion"


@dataclass(frozen=True, kw_only=True)
class OcclusionConfig(SplitConfig):
    """The paper's Figure 5: covers parts of faces and compares how both croppers then cut, the
    model's localizer and the centroid cropper, on the rough labels of its coarse network.

    python jobs/paper.py occlusion --model MODEL --data OUT
    """

    num_covered: int = 2
    """Parts covered a face, 1 to 5, of those that it has."""
    num_examples: int = 6
    """Faces in the picture, drawn at random from those."""
    seed: int = 0
    """Seed of the choice of parts and of faces in the picture, and of the intervals."""

    def __post_init__(self) -> None:
        super().__post_init__()
        most = PAPER9.num_parts - 1
        require(1 <= self.num_covered <= most, "num_covered", f"1 to {most}", self.num_covered)
        require(self.num_examples >= 1, "num_examples", "at least 1", self.num_examples)
        require(self.seed >= 0, "seed", "0 or more", self.seed)


def run_occlusion(config: OcclusionConfig) -> dict[str, Any]:
    """Covers parts of faces and compares how the croppers cut them.

    Returns:
        The job's last line: `covered`, `covered_missing` (from the coarse labels) and
        `not_covered`, each with the measures of each cropper; `covered_whole_by`, how many parts
        which of them cut whole.

    Raises:
        ValueError: for a model or data that can't be used; a model needs a trained localizer.
        TrackingUnavailableError: where the tracking server is away.
    """

    def measure(
        model: StudiedModel, faces: ShardedFaces, subject: str, folder: Path
    ) -> ExperimentResult:
        comparison = CropperComparison(
            model.checkpoint, model.system, config.num_covered, config.seed
        )
        sizes = model.checkpoint.config.model.window_px.values()
        subject = (
            f"{subject}; of each, up to {config.num_covered} parts covered (seed {config.seed}). "
            f"Both croppers get the rough labels of the coarse network of {model.given}; windows "
            f"are set to {min(sizes)} to {max(sizes)} px, and {model.system} applies its own "
            f"factor to that (beside it: without). {AVERAGE_FACE}: a control that looks at nothing."
        )
        return report_occlusion(folder, comparison, faces, subject, config.num_examples)

    return run_split_experiment(NAME, config, ("coarse", "localizer"), measure)
