"""The report of the paper's table: F1 a part, seeds' deviation, bootstrap, paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from stn_icnn.labels import LabelSet
from stn_icnn.reporting.charts import Colour, add_legend, draw_grouped_bars, open_figure
from stn_icnn.reporting.published import PAPER_TABLES
from stn_icnn.reporting.tables import (
    escape_markdown,
    f1_headings,
    f1_values,
    format_f1,
    markdown_table,
    write_csv,
    write_lines,
)
from stn_icnn.scoring.f1 import F1Rows, bootstrap_f1, f1_rows, percentile_interval
from stn_icnn.scoring.paired_difference import PairedDifference
from stn_icnn.scoring.seed_statistics import SeedStatistics


@dataclass(frozen=True)
class TableReport:
    """What was measured.

    Attributes:
        title: heading of the report.
        dataset: whose table of the paper it stands beside.
        systems: the compared ones, each expected to be better than the one before.
        counts: by seed, then by system (also others than the compared ones), confusion counts of
            each test image, int64 `[M, C, C]`.
        label_set: the C classes, and the rows of the table.
    """

    title: str
    dataset: str
    systems: Sequence[str]
    counts: Mapping[int, Mapping[str, Tensor]]
    label_set: LabelSet

    @property
    def names(self) -> list[str]:
        """All scored systems, the compared ones first."""
        others = [name for name in next(iter(self.counts.values())) if name not in self.systems]
        return [*self.systems, *others]

    @property
    def num_images(self) -> int:
        """Images of the test split."""
        return len(next(iter(next(iter(self.counts.values())).values())))

    def rows_of(self, system: str) -> dict[int, F1Rows]:
        """F1 of each row, by seed."""
        return {
            seed: f1_rows(counts[system].sum(dim=0), self.label_set)
            for seed, counts in self.counts.items()
        }

    def repeats(self, system: str, row: str) -> SeedStatistics | None:
        """A row's F1 over the seeds; None where the systems do not have it."""
        values = [rows[row] for rows in self.rows_of(system).values()]
        defined = [value for value in values if value is not None]
        return SeedStatistics.of(defined) if defined else None

    def mean(self, system: str, row: str) -> float | None:
        """The mean over the seeds; None where the systems do not have the row."""
        repeats = self.repeats(system, row)
        return None if repeats is None else repeats.mean

    def stacked(self, system: str) -> Tensor:
        """Counts of a system, int64 `[seeds, M, C, C]`."""
        return torch.stack([counts[system] for counts in self.counts.values()])

    def interval(self, system: str) -> tuple[float, float]:
        """Of `overall`, mean over seeds: 95 % bootstrap interval over images."""
        drawn = bootstrap_f1(self.stacked(system), self.label_set).mean(dim=0)
        low, high = percentile_interval(drawn).tolist()
        return low, high


def differences_of(report: TableReport) -> list[PairedDifference]:
    """Of each system and each one before it, the next ones first."""
    pairs = sorted(combinations(range(len(report.systems)), 2), key=lambda p: (p[1] - p[0], p))
    counts = {name: report.stacked(name) for name in report.systems}
    return [
        PairedDifference.between(
            report.systems[after], report.systems[before], counts, report.label_set
        )
        for before, after in pairs
    ]


def write_table(folder: Path, report: TableReport) -> None:
    """Writes `table.md`, `table.csv`, `table_differences.csv` and `table.png`."""
    write_lines(folder / "table.md", _markdown(report))
    heading = ["system", "source", "seed", *f1_headings(report.label_set)]
    write_csv(folder / "table.csv", heading, _csv_rows(report))
    heading = ["better", "worse", "seeds", "mean", "deviation", "low", "high", "images_better"]
    write_csv(folder / "table_differences.csv", heading, _difference_rows(report))
    _draw_chart(folder / "table.png", report)


def _markdown(report: TableReport) -> list[str]:
    num = len(report.counts)
    seeds = "one seed" if num == 1 else f"{num} seeds: mean and standard deviation over them"
    paper = PAPER_TABLES.get(report.dataset)
    headings = f1_headings(report.label_set)
    lines = [f"# {report.title}", ""]
    table = [
        [escape_markdown(name), *(_spread(report.repeats(name, row)) for row in headings)]
        for name in report.names
    ]
    for name, rows in (paper.rows() if paper else {}).items():
        table.append([escape_markdown(name), *map(format_f1, f1_values(rows, report.label_set))])
    lines += markdown_table(["F1", *headings.values()], table)
    lines += [
        "",
        f"{report.num_images} test images of {report.dataset}, {seeds}. "
        "Counts are summed over the images before F1; `mean` is over the inner classes. "
        r"STN-iCNN\*: the fine networks alone are trained. The systems of a seed start from one "
        "coarse network and localizer; the coarse network alone is as it was before.",
        *([f"The paper's rows are from its {paper.source}."] if paper else []),
        "",
    ]
    spread = []
    for name in report.systems:
        low, high = report.interval(name)
        ends = f"{low:.3f} to {high:.3f}"
        spread.append([escape_markdown(name), report.repeats(name, "overall"), ends])
    heading = ["`overall`", "over seeds (deviation; 95 % of the mean)", "95 % over images"]
    lines += [*markdown_table(heading, spread), ""]
    compared = []
    for one in differences_of(report):
        low, high = one.interval
        name = escape_markdown(f"{one.better} - {one.worse}")
        ends = f"{low:+.4f} to {high:+.4f}"
        share = None if one.images_better is None else f"{one.images_better:.0%}"
        compared.append([name, _signed(one.over_seeds), ends, share])
    heading = ["difference of `overall`, paired", "over seeds", "95 % over images", "images better"]
    return [*lines, *markdown_table(heading, compared), "", "![table.png](table.png)"]


def _spread(repeats: SeedStatistics | None) -> str | None:
    """Mean and, of several seeds, deviation."""
    if repeats is None or repeats.deviation is None:
        return format_f1(None if repeats is None else repeats.mean)
    return f"{repeats.mean:.3f} ± {repeats.deviation:.3f}"


def _signed(repeats: SeedStatistics) -> str:
    if repeats.deviation is None:
        return f"{repeats.mean:+.4f}"
    return f"{repeats.mean:+.4f} ± {repeats.deviation:.4f} ({repeats.num} runs)"


def _csv_rows(report: TableReport) -> list[list[object]]:
    rows: list[list[object]] = []
    for name in report.names:
        for seed, of_seed in report.rows_of(name).items():
            rows.append([name, "measured", seed, *f1_values(of_seed, report.label_set)])
    paper = PAPER_TABLES.get(report.dataset)
    for name, theirs in (paper.rows() if paper else {}).items():
        rows.append([name, paper and paper.source, None, *f1_values(theirs, report.label_set)])
    return rows


def _difference_rows(report: TableReport) -> list[list[object]]:
    rows: list[list[object]] = []
    for one in differences_of(report):
        seeds = one.over_seeds
        numbers = (seeds.num, seeds.mean, seeds.deviation, *one.interval, one.images_better)
        rows.append([one.better, one.worse, *numbers])
    return rows


def _draw_chart(path: Path, report: TableReport) -> None:
    """Draws the means over seeds as bars, a dot for each seed, a line at the paper's value."""
    headings = f1_headings(report.label_set)
    shown = [row for row in headings if report.mean(report.systems[0], row) is not None]
    means = {name: [report.mean(name, row) or 0 for row in shown] for name in report.systems}
    paper = PAPER_TABLES.get(report.dataset)
    published = paper.rows() if paper else {}
    figure, (axes,) = open_figure(report.title, width=10)
    centres = draw_grouped_bars(axes, [headings[row] for row in shown], means)
    half_width = 0.4 / len(means)
    for name, at in centres.items():
        for of_seed in report.rows_of(name).values():
            axes.plot(at, [of_seed[row] or 0 for row in shown], ".", color="black", markersize=3)
        theirs = published.get(f"{name} (paper)", {})
        for x, row in zip(at, shown, strict=True):
            if (f1 := theirs.get(row)) is not None:
                axes.hlines(f1, x - half_width, x + half_width, color=Colour.COMPARED)
    axes.plot([], [], color=Colour.COMPARED, label="paper")
    axes.set_ylim(max(0, min(map(min, means.values())) - 0.1), 1)
    axes.set_ylabel("F1")
    add_legend(figure)
    figure.savefig(path)
