"""What better windows would be worth: a model's fine networks in windows that are found otherwise.

Not in the paper. Windows at the true centres show what a localizer without error would add to these
fine networks, and a little more, as such a window also gives away how far annotators drew a part;
windows that lie off by a known error say how exact it must be. Trains nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from cluster.paper.experiment import OpenedModel
from cluster.paper.model_on_split import ModelOnSplit, SplitConfig, batches_of, run_on_split
from stn_icnn.config import require
from stn_icnn.data.batch import Batch
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import LabelSet
from stn_icnn.networks.execution import default_device, prepare_model
from stn_icnn.networks.model import Parsing, STNiCNN
from stn_icnn.networks.pasting import label_maps
from stn_icnn.reporting.charts import Colour, add_legend, open_figure
from stn_icnn.reporting.tables import (
    escape_markdown,
    format_f1,
    markdown_table,
    write_csv,
    write_lines,
)
from stn_icnn.scoring.confusion import true_labels
from stn_icnn.scoring.f1 import F1Rows, confusion, f1_rows
from stn_icnn.scoring.paired_difference import PairedDifference
from stn_icnn.scoring.window_scores import WindowScores, score_windows
from stn_icnn.studies.croppers import locate
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.training.phases import PHASES
from stn_icnn.training.true_windows import true_locations

NAME: Final = "windows"
TRUE: Final = "true centres"
SHOWN: Final = ("eyes", "brows", "nose", "mouth", "overall", "mean")
"""Rows of F1 in the table."""


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
        fit = len(set(self.errors)) == len(self.errors) and all(0 < e < 1 for e in self.errors)
        require(fit, "errors", "shares above 0 and below 1, each once", list(self.errors))


def run_windows(config: WindowsConfig) -> dict[str, Any]:
    """The job.

    Returns:
        Its last line: `overall` and `error_px` by cropper, and `difference` of each to the model's
        own windows: mean, and the ends of its 95 % bootstrap interval over images.

    Raises:
        ValueError: for a model or data that can't be used.
        TrackingUnavailableError: where the tracking server is away.
    """
    networks = PHASES["end_to_end"].trained_networks
    return run_on_split(NAME, config, networks, partial(_measure, config.errors))


@dataclass(frozen=True)
class Labelled:
    """What comes of a cropper's windows on M faces."""

    counts: Tensor
    """Confusion counts, int64 `[M, C, C]`."""
    scores: WindowScores
    """Of the windows."""
    label_set: LabelSet
    """The C classes."""

    @classmethod
    def joined(cls, some: Sequence["Labelled"]) -> "Labelled":
        """That of several batches."""
        scores = WindowScores.joined([one.scores for one in some])
        return cls(torch.cat([one.counts for one in some]), scores, some[0].label_set)

    @cached_property
    def f1(self) -> F1Rows:
        """The rows of `f1_rows`."""
        return f1_rows(self.counts.sum(dim=0), self.label_set)

    @property
    def error_px(self) -> float:
        """Of the windows' centres, mean over the parts that are there."""
        return float(self.scores.error_px.nanmean())

    @property
    def share_inside(self) -> float:
        """Of a part's true pixels in its window, mean over the parts that are there."""
        return float(self.scores.share_inside.nanmean())


def _measure(errors: Sequence[float], tried: ModelOnSplit, folder: Path) -> ExperimentResult:
    model = tried.model
    labelled = label_faces(model, tried.faces, errors)
    about = (
        f"{tried.about}, labelled by the fine networks of {model.given} "
        f"({escape_markdown(model.system)}), which were trained on windows of its own localizer."
    )
    return write_windows(folder, labelled, model.system, about)


def label_faces(
    model: OpenedModel, faces: ShardedFaces, errors: Sequence[float]
) -> dict[str, Labelled]:
    """Labels faces in each cropper's windows.

    Args:
        model: all of whose networks are used.
        faces: with truth.
        errors: as `WindowsConfig` says.

    Returns:
        By cropper; the model's own windows are under its system's name.
    """
    checkpoint, device = model.checkpoint, default_device()
    prepared = prepare_model(checkpoint.model, checkpoint.config, device)
    labelled = [
        _label(prepared, batch, device, model.system, errors) for batch in batches_of(faces)
    ]
    return {name: Labelled.joined([one[name] for one in labelled]) for name in labelled[0]}


@torch.inference_mode()
def _label(
    model: STNiCNN, batch: Batch, device: torch.device, system: str, errors: Sequence[float]
) -> dict[str, Labelled]:
    """A batch on the CPU, labelled on a device."""
    truths = [true_labels(batch, i) for i in range(len(batch))]
    seen = batch.to(device)
    at = locate(model, seen, system)
    candidates = {**at.by_cropper, TRUE: true_locations(seen)}
    candidates |= {f"{TRUE} ± {error:g}": true_locations(seen, error) for error in errors}
    labelled = {}
    for name, locations in candidates.items():
        windows = model.windows(locations, seen)
        theta, part_logits = model.label_parts(seen, windows)
        parsing = Parsing(at.coarse_logits, locations, windows, theta, part_logits, model.label_set)
        maps = label_maps(parsing, batch.host_sizes)
        counts = [
            confusion(truth, labels.cpu(), model.label_set.num_classes)
            for truth, labels in zip(truths, maps, strict=True)
        ]
        scores = score_windows(windows.cpu(), batch, model.label_set)
        labelled[name] = Labelled(torch.stack(counts), scores, model.label_set)
    return labelled


def write_windows(
    folder: Path, labelled: Mapping[str, Labelled], system: str, about: str
) -> ExperimentResult:
    """Writes `windows.md`, `.csv` and `.png`.

    Args:
        folder: that exists.
        labelled: by cropper.
        system: the one that the others are compared with: the model's own windows.
        about: what was measured, in a sentence or two.
    """
    counts = {name: one.counts for name, one in labelled.items()}
    differences = {
        name: PairedDifference.between(name, system, counts, labelled[system].label_set)
        for name in labelled
        if name != system
    }
    table = _table(labelled, differences)
    text = [
        "# What better windows would be worth",
        "",
        about,
        "",
        *table,
        "",
        "Error: from a part's true centroid to its window's centre; inside: the share of a part's "
        "true pixels in its window; both are means over parts. ±: standard deviation of x and of "
        "y, as a share of the image's sides. Difference: of `overall` to the model's own windows, "
        "on the same images, with 95 % bootstrap intervals.",
        "",
        "![windows.png](windows.png)",
    ]
    write_lines(folder / "windows.md", text)
    heading = ["cropper", "error_px", "share_inside", *SHOWN]
    rows = [
        [name, one.error_px, one.share_inside, *(one.f1[row] for row in SHOWN)]
        for name, one in labelled.items()
    ]
    write_csv(folder / "windows.csv", heading, rows)
    _draw_chart(folder / "windows.png", labelled, system)
    overall = {name: one.f1["overall"] for name, one in labelled.items()}
    result = {
        "overall": overall,
        "error_px": {name: one.error_px for name, one in labelled.items()},
        "difference": {name: one.numbers for name, one in differences.items()},
    }
    return ExperimentResult(table, result)


def _table(
    labelled: Mapping[str, Labelled], differences: Mapping[str, PairedDifference]
) -> list[str]:
    rows = []
    for name, one in labelled.items():
        cells = (f"{one.error_px:.1f}", f"{one.share_inside:.3f}")
        f1 = (format_f1(one.f1[row]) for row in SHOWN)
        rows.append([escape_markdown(name), *cells, *f1, differences.get(name)])
    return markdown_table(["windows", "error, px", "inside", *SHOWN, "difference"], rows)


def _draw_chart(path: Path, labelled: Mapping[str, Labelled], system: str) -> None:
    """Draws F1 against the windows' error: a line of known errors, a point for each cropper."""
    figure, (axes,) = open_figure("F1 against the windows' error", width=6)
    at = {name: (one.error_px, one.f1["overall"] or math.nan) for name, one in labelled.items()}
    line = sorted(point for name, point in at.items() if name.startswith(TRUE))
    axes.plot(*zip(*line, strict=True), "-o", color=Colour.MUTED, label=f"{TRUE} ± an error")
    for name, point in at.items():
        if not name.startswith(TRUE):
            axes.plot(*point, "s" if name == system else "x", label=name)
    axes.set_xlabel("windows' error, px")
    axes.set_ylabel("F1 overall")
    add_legend(figure, columns=3)
    figure.savefig(path)
