"""The report of the paper's Figure 6: F1 of both pipelines by the coarse network's input size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from torch import Tensor

from stn_icnn.labels import LabelSet
from stn_icnn.reporting.charts import draw_grouped_bars, open_figure, save_with_legend
from stn_icnn.reporting.documents import Block, PictureFile, write_document
from stn_icnn.reporting.tables import F1Line, Table, f1_in_words, f1_table, write_f1_csv
from stn_icnn.scoring.f1 import F1Rows, f1_rows
from stn_icnn.scoring.paired_difference import PairedDifference
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.training.phases import System

PAPER: Final = (
    "The paper, on HELEN, prints its Figure 6 without numbers: from 64 to 128 px the change "
    '"had limited effect on the baseline method, but improved our approach significantly".'
)


def write_coarse_size(
    folder: Path,
    title: str,
    systems: Sequence[System],
    counts: Mapping[int, Mapping[str, Tensor]],
    label_set: LabelSet,
    about: Sequence[Block] = (),
) -> ExperimentResult:
    """Writes `coarse_size.md`, `report.html`, `coarse_size.csv` and `coarse_size.png`.

    Args:
        folder: an existing folder for the files.
        title: heading of the report.
        systems: the systems that are compared between sizes.
        counts: by size in px, then by system (also others than the compared ones), confusion
            counts of each test image, int64 `[M, C, C]`.
        label_set: the C classes, and the rows of the tables.
        about: the end of the report.

    Returns:
        The results: `overall` by size and system, and `differences` of each other size to the
        first, paired; and the F1 of the best system and size.
    """
    f1 = {
        px: {name: f1_rows(each.sum(dim=0), label_set) for name, each in by_system.items()}
        for px, by_system in counts.items()
    }
    differences = _differences(systems, counts, label_set)
    lines: list[F1Line] = [
        ([px, name], rows) for px, by_system in f1.items() for name, rows in by_system.items()
    ]
    heading = ["difference of `overall`, paired", "95 % over images in brackets"]
    _draw_chart(folder / "coarse_size.png", title, systems, f1)
    write_document(
        folder,
        "coarse_size",
        title,
        f1_table(["px", "F1"], lines, label_set),
        Table(heading, list(differences.items())),
        PAPER,
        PictureFile("coarse_size.png", "F1 by input size"),
        *about,
    )
    write_f1_csv(folder / "coarse_size.csv", ["coarse_px", "system"], lines, label_set)
    trained = [(px, system) for px in f1 for system in systems]
    px, system = max(trained, key=lambda one: f1[one[0]][one[1]]["overall"] or 0.0)
    result = {
        "overall": {
            px: {name: rows["overall"] for name, rows in by_system.items()}
            for px, by_system in f1.items()
        },
        "differences": {name: difference.numbers for name, difference in differences.items()},
    }
    best = f1[px][system]
    headline = f1_in_words(f"{system} with a coarse input of {px} px", best, label_set)
    return ExperimentResult([], result, headline=headline, f1=best, best=(px, system))


def _differences(
    systems: Sequence[str], counts: Mapping[int, Mapping[str, Tensor]], label_set: LabelSet
) -> dict[str, PairedDifference]:
    """Computes each system's difference between every other size and the first."""
    first, *others = (f"{px} px" for px in counts)
    differences = {}
    for system in systems:
        by_size = {f"{px} px": by_system[system] for px, by_system in counts.items()}
        for px in others:
            difference = PairedDifference.between(px, first, by_size, label_set)
            differences[f"{system}, {difference.name}"] = difference
    return differences


def _draw_chart(
    path: Path, title: str, systems: Sequence[str], f1: Mapping[int, Mapping[str, F1Rows]]
) -> None:
    figure, (axes,) = open_figure(title, width=5)
    heights = {
        system: [by_system[system]["overall"] or 0 for by_system in f1.values()]
        for system in systems
    }
    draw_grouped_bars(axes, [f"{px} px" for px in f1], heights, label_format="%.3f")
    axes.set_ylim(max(0, min(map(min, heights.values())) - 0.1), 1)
    axes.set_ylabel("F1 overall")
    save_with_legend(figure, path)
