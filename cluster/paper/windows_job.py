"""The job that measures what better windows would be worth to a model's fine networks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster.paper.measuring_experiment import StudiedModel
from cluster.paper.split_experiment import SplitConfig, run_split_experiment
from stn_icnn.config import require
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.reporting.tables import escape_markdown
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.windows import label_faces, report_windows
from stn_icnn.training.phases import PHASES

NAME: Final = "windows"


@dataclass(frozen=True, kw_only=True)
class WindowsConfig(SplitConfig):
    """What better windows would be worth: labels the same faces in windows found in several ways.

    python jobs/paper.py windows --model MODEL --data OUT
    """

    errors: tuple[float, ...] = (0.005, 0.01, 0.02, 0.04)
    """How far off the true centres windows are laid: standard deviations as shares of the image's
    sides. Windows that lie exactly on them are always tried."""

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = len(set(self.errors)) == len(self.errors) and all(0 < e < 1 for e in self.errors)
        require(allowed, "errors", "shares above 0 and below 1, each once", list(self.errors))


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
        model: StudiedModel, faces: ShardedFaces, subject: str, folder: Path
    ) -> ExperimentResult:
        labelled = label_faces(model.checkpoint, model.system, faces, config.errors)
        subject = (
            f"{subject}, labelled by the fine networks of {model.given} "
            f"({escape_markdown(model.system)}), which were trained on windows of its own "
            "localizer."
        )
        return report_windows(folder, labelled, model.system, subject)

    return run_split_experiment(NAME, config, PHASES["end_to_end"].trained_networks, measure)
