"""The job of Figure 5, which compares both croppers on faces of which parts are covered."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cluster.paper.config import OcclusionConfig
from cluster.paper.measuring_experiment import StudiedModel
from cluster.paper.split_experiment import run_split_experiment
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.reporting.documents import Block
from stn_icnn.studies.cropper_comparison import CropperComparison
from stn_icnn.studies.croppers import AVERAGE_FACE
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.occlusion_report import report_occlusion

NAME: Final = "occlusion"


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
        model: StudiedModel,
        faces: ShardedFaces,
        subject: str,
        folder: Path,
        about: Sequence[Block],
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
        return report_occlusion(folder, comparison, faces, subject, config.num_examples, about)

    return run_split_experiment(NAME, config, ("coarse", "localizer"), measure)
