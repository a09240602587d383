"""The report of the paper's Tables 2 and 3: F1 over seeds, intervals and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from stn_icnn.labels import LabelSet
from stn_icnn.reporting.charts import Colour, draw_grouped_bars, open_figure, save_with_legend
from stn_icnn.reporting.documents import Block, PictureFile, write_document
from stn_icnn.reporting.tables import (
    F1Line,
    Table,
    f1_headings,
    f1_headline,
    f1_values,
    format_f1,
    write_csv,
    write_f1_csv,
)
from stn_icnn.scoring.f1 import F1Rows, bootstrap_f1, f1_rows, percentile_interval
from stn_icnn.scoring.paired_difference import PairedDifference
from stn_icnn.scoring.published import published_f1
from stn_icnn.scoring.seed_statistics import SeedStatistics
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.training.phases import SYSTEMS, System


@dataclass(frozen=True)
class TableReport:
    """The systems of the paper, trained with some seeds and scored on one test split.

    Attributes:
        title: heading of the report.
        dataset: name of the data set, beside whose table in the paper the numbers stand.
        systems: the systems that are compared, each expected to be better than the one before.
        counts: by seed, then by system (also others than the compared ones), confusion counts of
            each test image, int64 `[M, C, C]`.
        label_set: the C classes, and the rows of the table.
    """

    title: str
    dataset: str
    systems: Sequence[System]
    counts: Mapping[int, Mapping[str, Tensor]]
    label_set: LabelSet

    @cached_property
    def counts_by_system(self) -> dict[str, Tensor]:
        """Confusion counts by system, the compared ones first, int64 `[seeds, M, C, C]`."""
        scored = next(iter(self.counts.values()))
        names = [*self.systems, *(name for name in scored if name not in self.systems)]
        return {name: torch.stack([c[name] for c in self.counts.values()]) for name in names}

    def rows_by_seed(self, system: str) -> dict[int, F1Rows]:
        """Returns a system's F1 by seed and row."""
        by_seed = zip(self.counts, self.counts_by_system[system].sum(dim=1), strict=True)
        return {seed: f1_rows(counts, self.label_set) for seed, counts in by_seed}

    def statistics(self, system: str, row: str) -> SeedStatistics | None:
        """Returns the statistics of a row's F1 over the seeds; None where it is undefined."""
        values = [rows[row] for rows in self.rows_by_seed(system).values()]
        defined = [value for value in values if value is not None]
        return SeedStatistics.of(defined) if defined else None

    def mean(self, system: str, row: str) -> float | None:
        """Returns the mean of a row's F1 over the seeds; None where it is undefined."""
        statistics = self.statistics(system, row)
        return None if statistics is None else statistics.mean

    def interval(self, system: str) -> tuple[float, float]:
        """Returns the 95 % bootstrap interval, over images, of `overall`, the mean over seeds."""
        drawn = bootstrap_f1(self.counts_by_system[system], self.label_set).mean(dim=0)
        low, high = percentile_interval(drawn).tolist()
        return low, high

    @cached_property
    def differences(self) -> list[PairedDifference]:
        """The difference of each system to each one before it; neighbours come first."""
        pairs = sorted(combinations(range(len(self.systems)), 2), key=lambda p: (p[1] - p[0], p))
        names = [(self.systems[after], self.systems[before]) for before, after in pairs]
        counts, label_set = self.counts_by_system, self.label_set
        return [PairedDifference.between(*pair, counts, label_set) for pair in names]

    @cached_property
    def best(self) -> System:
        """The compared system of the highest mean F1."""
        return max(self.systems, key=lambda system: self.mean(system, "overall") or 0.0)

    @property
    def result(self) -> ExperimentResult:
        """The results, whose F1 is the best system's, the mean over the seeds."""
        best, num = self.best, len(self.counts)
        f1 = {row: self.mean(best, row) for row in f1_headings(self.label_set)}
        system = best if num == 1 else f"{best}, mean of {num} seeds,"
        return ExperimentResult(
            [],
            {
                "overall": {
                    system: [rows["overall"] for rows in self.rows_by_seed(system).values()]
                    for system in self.systems
                },
                "differences": {one.name: one.numbers for one in self.differences},
            },
            {
                f"{SYSTEMS[system]}/test/f1_overall": self.mean(system, "overall")
                for system in self.systems
            },
            headline=f1_headline(system, f1, "test", self.dataset, self.label_set),
            f1=f1,
            best=(next(iter(self.counts)), best),
        )


def write_table(folder: Path, report: TableReport, about: Sequence[Block] = ()) -> None:
    """Writes `table.md`, `report.html`, `table.csv`, `table_differences.csv` and `table.png`.

    Args:
        folder: an existing folder for the files.
        report: the contents.
        about: the end of the report.
    """
    _draw_chart(folder / "table.png", report)
    _write_document(folder, report, about)
    measured: list[F1Line] = [
        ([name, "measured", seed], rows)
        for name in report.counts_by_system
        for seed, rows in report.rows_by_seed(name).items()
    ]
    paper = [([name, source, None], rows) for name, source, rows in published_f1(report.dataset)]
    heading = ["system", "source", "seed"]
    write_f1_csv(folder / "table.csv", heading, [*measured, *paper], report.label_set)
    differences = [
        [
            d.system,
            d.reference,
            seeds.num,
            seeds.mean,
            seeds.deviation,
            *d.interval,
            d.images_better,
        ]
        for d, seeds in ((d, d.over_seeds) for d in report.differences)
    ]
    heading = ["system", "reference", "seeds", "mean", "deviation", "low", "high", "images_better"]
    write_csv(folder / "table_differences.csv", heading, differences)


def _write_document(folder: Path, report: TableReport, about: Sequence[Block]) -> None:
    num, num_images = report.counts_by_system[report.systems[0]].shape[:2]
    seeds = "one seed" if num == 1 else f"{num} seeds: mean and standard deviation over them"
    paper = published_f1(report.dataset)
    scored = [
        f"{num_images} test images of {report.dataset}, {seeds}. "
        "Counts are summed over the images before F1; `mean` is over the inner classes. "
        "STN-iCNN*: the fine networks alone are trained. The systems of a seed start from one "
        "coarse network and localizer; the coarse network alone is as it was before."
    ]
    if paper:
        scored.append(f"The paper's rows are from its {paper[0].source}.")
    heading = ["`overall`", "over seeds (deviation; 95 % of the mean)", "95 % over images"]
    spread = [
        [
            name,
            report.statistics(name, "overall"),
            "{:.3f} to {:.3f}".format(*report.interval(name)),
        ]
        for name in report.systems
    ]
    write_document(
        folder,
        "table",
        report.title,
        _f1_table(report),
        " ".join(scored),
        Table(heading, spread),
        _differences_table(report.differences),
        PictureFile("table.png", "F1 by class"),
        *about,
    )


def _f1_table(report: TableReport) -> Table:
    headings = f1_headings(report.label_set)
    rows: list[list[object]] = [
        [name, *(_spread(report.statistics(name, row)) for row in headings)]
        for name in report.counts_by_system
    ]
    for name, _, theirs in published_f1(report.dataset):
        rows.append([name, *map(format_f1, f1_values(theirs, report.label_set))])
    return Table(["F1", *headings.values()], rows)


def _differences_table(differences: Sequence[PairedDifference]) -> Table:
    rows = []
    for one in differences:
        seeds = one.over_seeds
        over_seeds = f"{seeds.mean:+.4f}"
        if seeds.deviation is not None:
            over_seeds += f" ± {seeds.deviation:.4f} ({seeds.num} runs)"
        better = None if one.images_better is None else f"{one.images_better:.0%}"
        rows.append([one.name, over_seeds, "{:+.4f} to {:+.4f}".format(*one.interval), better])
    heading = ["difference of `overall`, paired", "over seeds", "95 % over images", "images better"]
    return Table(heading, rows)


def _spread(statistics: SeedStatistics | None) -> str | None:
    """Returns the mean as it is printed and, of several seeds, the deviation."""
    if statistics is None or statistics.deviation is None:
        return format_f1(None if statistics is None else statistics.mean)
    return f"{statistics.mean:.3f} ± {statistics.deviation:.3f}"


def _draw_chart(path: Path, report: TableReport) -> None:
    """Draws the means over seeds as bars, a dot for each seed, a line at the paper's value."""
    headings = f1_headings(report.label_set)
    shown = [row for row in headings if report.mean(report.systems[0], row) is not None]
    means = {str(name): [report.mean(name, row) or 0 for row in shown] for name in report.systems}
    published = {name: rows for name, _, rows in published_f1(report.dataset)}
    figure, (axes,) = open_figure(report.title, width=10)
    centres = draw_grouped_bars(axes, [headings[row] for row in shown], means)
    half_width = 0.4 / len(means)
    for name, positions in centres.items():
        for rows in report.rows_by_seed(name).values():
            f1 = [rows[row] or 0 for row in shown]
            axes.plot(positions, f1, ".", color="black", markersize=3)
        theirs = published.get(f"{name} (paper)", {})
        for x, row in zip(positions, shown, strict=True):
            if (value := theirs.get(row)) is not None:
                axes.hlines(value, x - half_width, x + half_width, color=Colour.COMPARED)
    axes.plot([], [], color=Colour.COMPARED, label="paper")
    axes.set_ylim(max(0, min(map(min, means.values())) - 0.1), 1)
    axes.set_ylabel("F1")
    save_with_legend(figure, path)
