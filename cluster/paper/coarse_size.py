"""The paper's Figure 6: what the size of the coarse network's input is worth to both pipelines."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cluster.config import TrainingJobConfig
from cluster.paper.systems import train_and_score
from cluster.paper.training_experiment import last_line, training_experiment
from cluster.tracking.result_files import publishing
from cluster.training.phase_runs import Training, branch
from stn_icnn.config import ModelConfig, TrainConfig, require
from stn_icnn.labels import LabelSet
from stn_icnn.reporting.charts import add_legend, draw_grouped_bars, open_figure
from stn_icnn.reporting.tables import (
    f1_headings,
    f1_values,
    format_f1,
    markdown_table,
    write_csv,
    write_lines,
)
from stn_icnn.scoring.f1 import F1Rows, f1_rows
from stn_icnn.scoring.paired_difference import PairedDifference
from stn_icnn.training.phases import System

SYSTEMS: tuple[System, ...] = ("iCNN", "STN-iCNN")
PAPER = (
    "The paper, on HELEN, prints its Figure 6 without numbers: from 64 to 128 px the change "
    '"had limited effect on the baseline method, but improved our approach significantly".'
)


@dataclass(frozen=True, kw_only=True)
class CoarseSizeConfig(TrainingJobConfig):
    """The paper's Figure 6, with a training job's settings, for all sizes alike.

    python jobs/paper.py coarse-size helen --data OUT --run-name NAME
    """

    sizes: tuple[int, ...] = (64, 128)
    """Sides of the coarse network's input, px (the paper: 64 and 128); they replace
    `model.coarse_px`. More may be asked for when a run is gone on with."""

    def __post_init__(self) -> None:
        distinct = len(set(self.sizes)) == len(self.sizes) > 0
        require(distinct, "sizes", "one or more, each once", list(self.sizes))
        for px in self.sizes:
            ModelConfig(coarse_px=px)  # refuses what can't be


def run_coarse_size(settings: CoarseSizeConfig, preset: str) -> dict[str, Any]:
    """Trains and scores the two-stage iCNN and STN-iCNN with each size.

    Args:
        settings: all of the job's.
        preset: that they started from, for the record.

    Returns:
        The job's last line: `run_id`, `run_name`, `overall` by size and system, `differences` of
        other sizes to the first (paired), `storage`, …

    Raises:
        ValueError: for settings, data or resources that can't be used, before any training.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where a loss is not finite any more, or workers failed too often.
    """
    counts: dict[int, Mapping[str, Tensor]] = {}
    with training_experiment("coarse-size", settings, preset) as whole:
        trainings = {px: branch(whole, f"coarse-{px}", _sized(whole, px)) for px in settings.sizes}
        for px, training in trainings.items():
            print(f"coarse input of {px} px", flush=True)
            counts[px] = train_and_score(training, SYSTEMS)
        title = f"{whole.run.name}: size of the coarse input, {whole.data.name}"
        with publishing(whole.run, whole.record.storage) as folder:
            found = write_coarse_size(folder, title, counts, whole.config.model.label_set)
    return last_line(whole, found)


def _sized(whole: Training, px: int) -> TrainConfig:
    return replace(whole.config, model=replace(whole.config.model, coarse_px=px))


def write_coarse_size(
    folder: Path, title: str, counts: Mapping[int, Mapping[str, Tensor]], label_set: LabelSet
) -> dict[str, Any]:
    """Writes `coarse_size.md`, `coarse_size.csv` and `coarse_size.png`.

    Args:
        folder: that exists.
        title: heading of the report.
        counts: by size in px, then by system, confusion counts, int64 `[M, C, C]`.
        label_set: the C classes, and the rows of the tables.

    Returns:
        `overall` and `differences`, as the job's last line has them.
    """
    found = {
        px: {name: f1_rows(of.sum(dim=0), label_set) for name, of in of_px.items()}
        for px, of_px in counts.items()
    }
    differences = _differences(counts, label_set)
    headings = f1_headings(label_set)
    lines = [(px, name, rows) for px, of_px in found.items() for name, rows in of_px.items()]
    shown = [[px, name, *map(format_f1, f1_values(rows, label_set))] for px, name, rows in lines]
    text = [f"# {title}", "", *markdown_table(["px", "F1", *headings.values()], shown)]
    heading = ["difference of `overall`, paired", "95 % over images in brackets"]
    text += ["", *markdown_table(heading, list(differences.items()))]
    text += ["", PAPER, "", "![coarse_size.png](coarse_size.png)"]
    write_lines(folder / "coarse_size.md", text)
    csv_rows = [[px, name, *f1_values(rows, label_set)] for px, name, rows in lines]
    write_csv(folder / "coarse_size.csv", ["coarse_px", "system", *headings], csv_rows)
    _draw_chart(folder / "coarse_size.png", title, found)
    return {
        "overall": {
            px: {name: rows["overall"] for name, rows in of_px.items()}
            for px, of_px in found.items()
        },
        "differences": {name: one.numbers for name, one in differences.items()},
    }


def _differences(
    counts: Mapping[int, Mapping[str, Tensor]], label_set: LabelSet
) -> dict[str, PairedDifference]:
    """Of each system with another size to that with the first."""
    first, *others = counts
    return {
        f"{system}, {px} px - {first} px": PairedDifference.between(
            f"{px} px",
            f"{first} px",
            {f"{p} px": counts[p][system] for p in (px, first)},
            label_set,
        )
        for system in SYSTEMS
        for px in others
    }


def _draw_chart(path: Path, title: str, found: Mapping[int, Mapping[str, F1Rows]]) -> None:
    figure, (axes,) = open_figure(title, width=5)
    heights: dict[str, list[float]] = {
        system: [of_px[system]["overall"] or 0 for of_px in found.values()] for system in SYSTEMS
    }
    draw_grouped_bars(axes, [f"{px} px" for px in found], heights, label_format="%.3f")
    axes.set_ylim(max(0, min(map(min, heights.values())) - 0.1), 1)
    axes.set_ylabel("F1 overall")
    add_legend(figure)
    figure.savefig(path)
