"""Better windows and their worth: a model's fine networks in windows that are found otherwise.

The paper has no such study. Windows at the true centres show what a localizer without error would
add to these fine networks, and a little more, as such a window also gives away how far annotators
drew a part. Windows that lie off by a known error say how exact a localizer must be.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from stn_icnn.data.batch import Batch
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import LabelSet
from stn_icnn.networks.checkpoint import Checkpoint
from stn_icnn.networks.execution import default_device, prepare_model
from stn_icnn.networks.model import Parsing, STNiCNN
from stn_icnn.networks.pasting import label_maps
from stn_icnn.reporting.charts import Colour, open_figure, save_with_legend
from stn_icnn.reporting.documents import Block, PictureFile, write_document
from stn_icnn.reporting.tables import Table, f1_in_words, format_f1, write_csv
from stn_icnn.scoring.confusion import batches_with_progress, count_batch
from stn_icnn.scoring.f1 import F1Rows, f1_rows
from stn_icnn.scoring.paired_difference import PairedDifference
from stn_icnn.scoring.window_scores import WindowScores, score_windows
from stn_icnn.studies.croppers import locate_by_cropper
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.training.true_windows import true_locations

TRUE_CENTRES: Final = "true centres"
"""The name of the cropper that knows the truth."""
REPORTED_ROWS: Final = ("eyes", "brows", "nose", "mouth", "overall", "mean")
"""The rows of F1 in the table."""


@dataclass(frozen=True)
class LabelledFaces:
    """The scores of M faces that the fine networks labelled in the windows of one cropper."""

    counts: Tensor
    """Confusion counts of each face, int64 `[M, C, C]`."""
    scores: WindowScores
    """The scores of the windows."""
    label_set: LabelSet
    """The C classes."""

    @classmethod
    def joined(cls, batches: Sequence["LabelledFaces"]) -> "LabelledFaces":
        """Joins the scores of several batches, in order."""
        scores = WindowScores.joined([batch.scores for batch in batches])
        return cls(torch.cat([batch.counts for batch in batches]), scores, batches[0].label_set)

    @cached_property
    def f1(self) -> F1Rows:
        """F1 of all faces together, as `f1_rows` returns it."""
        return f1_rows(self.counts.sum(dim=0), self.label_set)

    @property
    def error_px(self) -> float:
        """The mean distance of the windows' centres from the parts' true centroids, px."""
        return float(self.scores.error_px.nanmean())

    @property
    def share_inside(self) -> float:
        """The mean share of a part's true pixels that its window holds, in [0, 1]."""
        return float(self.scores.share_inside.nanmean())


def label_faces(
    checkpoint: Checkpoint, system: str, faces: ShardedFaces, errors: Sequence[float]
) -> dict[str, LabelledFaces]:
    """Labels faces in the windows of each cropper.

    Args:
        checkpoint: a model all of whose networks are trained.
        system: the model's name, under which its own windows are found in the result.
        faces: faces with truth.
        errors: standard deviations, as shares of the image's sides, of the errors that are added to
            the true centres, beside windows that lie exactly on them.

    Returns:
        The labelled faces by cropper.
    """
    device = default_device()
    model = prepare_model(checkpoint.model, checkpoint.config, device)
    batches = [
        _label(model, batch, device, system, errors) for batch in batches_with_progress(faces)
    ]
    return {name: LabelledFaces.joined([batch[name] for batch in batches]) for name in batches[0]}


@torch.inference_mode()
def _label(
    model: STNiCNN, batch: Batch, device: torch.device, system: str, errors: Sequence[float]
) -> dict[str, LabelledFaces]:
    """Labels a batch, which lies on the CPU, on a device."""
    label_set, on_device = model.label_set, batch.to(device)
    located = locate_by_cropper(model, on_device, system)
    locations_by_cropper = {**located.by_cropper, TRUE_CENTRES: true_locations(on_device)}
    for error in errors:
        locations_by_cropper[f"{TRUE_CENTRES} ± {error:g}"] = true_locations(on_device, error)
    labelled = {}
    for name, locations in locations_by_cropper.items():
        windows = model.windows(locations, on_device)
        theta, part_logits = model.label_parts(on_device, windows)
        parsing = Parsing(
            located.coarse_logits,
            locations,
            windows,
            on_device.sizes,
            theta,
            part_logits,
            label_set,
        )
        predicted = label_maps(parsing, batch.host_sizes)
        counts = count_batch(predicted, on_device, label_set.num_classes).cpu()
        scores = score_windows(windows.cpu(), batch, label_set)
        labelled[name] = LabelledFaces(counts, scores, label_set)
    return labelled


def report_windows(
    folder: Path,
    labelled: Mapping[str, LabelledFaces],
    system: str,
    subject: str,
    about: Sequence[Block] = (),
) -> ExperimentResult:
    """Writes `windows.md`, `report.html`, `windows.csv` and `windows.png`.

    Args:
        folder: an existing folder for the files.
        labelled: the labelled faces by cropper.
        system: the cropper that the others are compared with: the model's own.
        subject: what was measured, in a sentence or two.
        about: the end of the report.
    """
    counts = {name: faces.counts for name, faces in labelled.items()}
    differences = {
        name: PairedDifference.between(name, system, counts, labelled[system].label_set)
        for name in labelled
        if name != system
    }
    table = _table(labelled, differences)
    _draw_chart(folder / "windows.png", labelled, system)
    write_document(
        folder,
        "windows",
        "What better windows would be worth",
        subject,
        table,
        "Error: from a part's true centroid to its window's centre; inside: the share of a part's "
        "true pixels in its window; both are means over parts. ±: standard deviation of x and of "
        "y, as a share of the image's sides. Difference: of `overall` to the model's own windows, "
        "on the same images, with 95 % bootstrap intervals.",
        PictureFile("windows.png", "F1 against the windows' error"),
        *about,
    )
    rows = [
        [name, faces.error_px, faces.share_inside, *(faces.f1[row] for row in REPORTED_ROWS)]
        for name, faces in labelled.items()
    ]
    heading = ["cropper", "error_px", "share_inside", *REPORTED_ROWS]
    write_csv(folder / "windows.csv", heading, rows)
    result = {
        "overall": {name: faces.f1["overall"] for name, faces in labelled.items()},
        "error_px": {name: faces.error_px for name, faces in labelled.items()},
        "difference": {name: difference.numbers for name, difference in differences.items()},
    }
    own = labelled[system]
    headline = f1_in_words(f"{system} in its own windows", own.f1, own.label_set)
    best = format_f1(labelled[TRUE_CENTRES].f1["overall"])
    return ExperimentResult(
        table.markdown,
        result,
        headline=f"{headline}; at the {TRUE_CENTRES} F1 {best}",
        f1=own.f1,
    )


def _table(
    labelled: Mapping[str, LabelledFaces], differences: Mapping[str, PairedDifference]
) -> Table:
    rows = []
    for name, faces in labelled.items():
        scores = (f"{faces.error_px:.1f}", f"{faces.share_inside:.3f}")
        f1 = (format_f1(faces.f1[row]) for row in REPORTED_ROWS)
        rows.append([name, *scores, *f1, differences.get(name)])
    return Table(["windows", "error, px", "inside", *REPORTED_ROWS, "difference"], rows)


def _draw_chart(path: Path, labelled: Mapping[str, LabelledFaces], system: str) -> None:
    """Draws F1 against the windows' error: a line of known errors, a point for each cropper."""
    figure, (axes,) = open_figure("F1 against the windows' error", width=6)
    points = {
        name: (faces.error_px, faces.f1["overall"] or math.nan) for name, faces in labelled.items()
    }
    line = sorted(point for name, point in points.items() if name.startswith(TRUE_CENTRES))
    axes.plot(
        *zip(*line, strict=True), "-o", color=Colour.MUTED, label=f"{TRUE_CENTRES} ± an error"
    )
    for name, point in points.items():
        if not name.startswith(TRUE_CENTRES):
            axes.plot(*point, "s" if name == system else "x", label=name)
    axes.set_xlabel("windows' error, px")
    axes.set_ylabel("F1 overall")
    save_with_legend(figure, path, columns=3)
