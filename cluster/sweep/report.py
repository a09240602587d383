"""The report of a sweep: its numbers, a table, a CSV file, and charts."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.sweep.charts import curves_chart, setting_chart
from cluster.sweep.spaces import SearchSpace, Values, format_value
from cluster.sweep.sweep_record import Trial
from stn_icnn.reporting.documents import Block, Items, PictureFile, write_document
from stn_icnn.reporting.run_results import sum_if_known
from stn_icnn.reporting.tables import Table, write_csv
from stn_icnn.scoring.seed_statistics import SeedStatistics
from stn_icnn.training.phases import SelectionMetric


@dataclass(frozen=True)
class RankedCombination:
    """A combination of values that was trained to its end, with its trainings."""

    values: Values
    trials: Sequence[Trial]
    """Its trainings that are finished."""
    metric: SeedStatistics
    """Statistics of the metric over them."""


@dataclass(frozen=True)
class SweepReport:
    """The result of a sweep."""

    title: str
    metric: SelectionMetric
    """The metric that trials are compared by."""
    space: SearchSpace
    trials: Sequence[Trial]
    num_epochs: int
    """Epochs of the last phase of a trial that is not stopped."""
    seeds: int
    """Trainings of each combination whose first one was not stopped."""

    @property
    def ranked(self) -> list[RankedCombination]:
        """The combinations that were trained to their end, best first.

        Those with all their seeds come before those of which a training failed.
        """
        finished: dict[int, list[Trial]] = {}
        for trial in self.trials:
            if trial.state == "finished":
                finished.setdefault(trial.combination, []).append(trial)
        combinations = []
        for trials in finished.values():
            results = [self.metric.score(t.score) for t in trials if t.score is not None]
            statistics = SeedStatistics.of(results)
            combinations.append(RankedCombination(trials[0].values, trials, statistics))
        return sorted(
            combinations, key=lambda c: (-len(c.trials), -self.metric.score(c.metric.mean))
        )

    @property
    def best(self) -> RankedCombination | None:
        """The best combination that was trained to its end; None where none was."""
        return next(iter(self.ranked), None)

    @property
    def states(self) -> dict[str, int]:
        """The number of trials in each state."""
        return dict(Counter(trial.state for trial in self.trials))

    @property
    def epochs(self) -> dict[str, float]:
        """The epochs of the last phase that were trained, and that early stopping has saved.

        `trained` epochs of `to_the_end`, which the first trainings would have taken in all, but for
        those that failed or diverged; `saved` is the share of these that was not trained. Repeats
        are never stopped.
        """
        compared = [t for t in self.trials if t.repeat == 0 and t.state in ("finished", "pruned")]
        trained, to_the_end = sum(t.epochs for t in compared), len(compared) * self.num_epochs
        saved = 1 - trained / to_the_end if to_the_end else 0.0
        return {"trained": trained, "to_the_end": to_the_end, "saved": saved}

    @property
    def minutes(self) -> float | None:
        """The minutes that the steps of all trials took; None where those of one are not known."""
        return sum_if_known(trial.minutes for trial in self.trials)

    @property
    def machines(self) -> list[str]:
        """The machines of the trials, as far as they are known, each once."""
        return list(dict.fromkeys(trial.computed_on for trial in self.trials if trial.computed_on))

    @property
    def numbers(self) -> dict[str, float]:
        """The sweep's own metrics for MLflow, by name."""
        epochs = {f"sweep/epochs_{name}": float(value) for name, value in self.epochs.items()}
        return epochs | {f"sweep/trials_{k}": float(v) for k, v in self.states.items()}


def write_sweep_report(folder: Path, report: SweepReport, about: Sequence[Block] = ()) -> None:
    """Writes `sweep.md`, `report.html`, `sweep.csv`, `curves.png` and, for each setting,
    `field_NAME.png`.

    Args:
        folder: an existing folder for the files.
        report: the contents.
        about: the end of the report.
    """
    heading, rows = _trial_table(report)
    write_csv(folder / "sweep.csv", heading, rows)
    metric, trials = report.metric, report.trials
    charts = {"curves.png": curves_chart(report.title, metric, trials)}
    for name, space in report.space.items():
        charts[f"field_{name}.png"] = setting_chart(name, space, metric, trials)
    for picture, chart in charts.items():
        chart.savefig(folder / picture)
    pictures = [PictureFile(file, file.removesuffix(".png")) for file in charts]
    blocks = [*_summary(report), _table(heading, rows), *pictures, *about]
    write_document(folder, "sweep", report.title, *blocks)


def _trial_table(report: SweepReport) -> tuple[list[str], list[list[Any]]]:
    """Returns the heading and a row for each trial, by state and then from the best score down."""
    names = list(report.space)
    order = ("finished", "pruned", "diverged", "failed", "running")

    def order_of(trial: Trial) -> tuple[int, float]:
        return order.index(trial.state), math.inf if trial.score is None else -trial.score

    rows: list[list[Any]] = []
    for trial in sorted(report.trials, key=order_of):
        score = None if trial.score is None else report.metric.score(trial.score)
        values = [trial.values[name] for name in names]
        ending = (trial.seed, trial.state, trial.epochs, score, trial.error or "")
        rows.append([trial.name, *values, *ending])
    return ["trial", *names, "seed", "state", "epochs", report.metric.name, "error"], rows


def _summary(report: SweepReport) -> list[Block]:
    """Returns the blocks that stand before the trials and the charts."""
    epochs, best = report.epochs, report.best
    counts = [
        ", ".join(f"{number} {state}" for state, number in report.states.items()) + ".",
        f"Trained {epochs['trained']:g} of the {epochs['to_the_end']:g} epochs that all "
        f"combinations would have taken to the end: {epochs['saved']:.0%} saved. Repeats with "
        "other seeds, and trials that failed or diverged, are not counted in this.",
        f"`{report.metric.name}` is the best epoch's, on the validation split, which chose it: of "
        "the best of many trials it is a little flattering. Pruned trials had fewer epochs: in the "
        "charts of settings, bars are of all trials after as many epochs as each of them has had, "
        "without those that failed or diverged and, where any was pruned, without repeats.",
    ]
    blocks: list[Block] = [" ".join(counts)]
    if best is not None:
        blocks.append(f"Best combination ({best.trials[0].name}): {best.metric}")
        values = [f"`{name}`: {_cell(value) or '-'}" for name, value in best.values.items()]
        blocks.append(Items(values))
    if report.seeds > 1:
        blocks.append(_combinations_table(report))
    return blocks


def _combinations_table(report: SweepReport) -> Table:
    """Returns mean, deviation and interval of each combination's trainings, best first."""
    names = list(report.space)
    rows = []
    for combination in report.ranked:
        metric = combination.metric
        numbers = (metric.num, metric.mean, metric.deviation, *(metric.interval or (None, None)))
        rows.append([*(combination.values[name] for name in names), *numbers])
    return _table([*names, "runs", "mean", "deviation", "95 % from", "to"], rows)


def _table(heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    return Table(heading, [[_cell(value) for value in row] for row in rows])


def _cell(value: object) -> str | None:
    return None if value is None else format_value(value).replace("|", "/")
