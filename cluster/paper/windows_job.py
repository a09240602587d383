"""The job that measures what better windows would be worth to a model's fine networks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cluster.paper.config import WindowsConfig
from cluster.paper.measuring_experiment import StudiedModel
from cluster.paper.split_experiment import run_split_experiment
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.reporting.documents import Block
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.windows import label_faces, report_windows
from stn_icnn.training.phases import PHASES

NAME: Final = "windows"


def run_windows(config: WindowsConfig) -> dict[str, Any]:
    """Labels faces in windows found in several ways and compares their F1.

    Returns:
        The job's last line: `overall` and `error_px` by cropper, and `difference` of each to the
        model's own windows: mean, and the ends of its 95 % bootstrap interval over images.

    Raises:
        ValueError: for a model or data that can't be used.
        TrackingUnavailableError: where the tracking server is away.
    """

    def measure(
        model: StudiedModel,
        faces: ShardedFaces,
        subject: str,
        folder: Path,
        about: Sequence[Block],
    ) -> ExperimentResult:
        labelled = label_faces(model.checkpoint, model.system, faces, config.errors)
        subject = (
            f"{subject}, labelled by the fine networks of {model.given} "
            f"({model.system}), which were trained on windows of its own localizer."
        )
        return report_windows(folder, labelled, model.system, subject, about)

    return run_split_experiment(NAME, config, PHASES["end_to_end"].trained_networks, measure)
