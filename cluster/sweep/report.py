"""The report of a sweep: its numbers, a table, a CSV file, and charts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.sweep.charts import curves_chart, field_chart
from cluster.sweep.spaces import SearchSpace, Values, format_value
from cluster.sweep.sweep_record import Trial
from cluster.sweep.trial_training import as_metric
from stn_icnn.reporting.tables import markdown_table, write_csv, write_lines
from stn_icnn.scoring.seed_statistics import SeedStatistics


@dataclass(frozen=True)
class Setting:
    """One setting of a sweep that came to its end."""

    values: Values
    trials: tuple[Trial, ...]
    """Its trainings that are finished."""
    shown: SeedStatistics
    """Of their metric."""


@dataclass(frozen=True)
class SweepReport:
    """What a sweep has found."""

    title: str
    metric: str
    """That trials are judged by: `val/f1_*`, or `val/loss`, of which less is better."""
    space: SearchSpace
    trials: Sequence[Trial]
    num_epochs: int
    """Of the last phase of a trial that is not stopped."""
    seeds: int
    """Trainings of each setting that came to its end."""

    def as_metric(self, score: float) -> float:
        """A score as the metric that it is made of."""
        return as_metric(self.metric, score)

    @property
    def ranked(self) -> list[Setting]:
        """The settings that came to their end, best first; those with all their seeds before
        those of which a training failed."""
        finished: dict[int, list[Trial]] = {}
        for trial in self.trials:
            if trial.state == "finished":
                finished.setdefault(trial.setting, []).append(trial)
        settings = [
            Setting(
                trials[0].values,
                tuple(trials),
                SeedStatistics.of([self.as_metric(t.score) for t in trials if t.score is not None]),
            )
            for trials in finished.values()
        ]
        return sorted(settings, key=lambda s: (-len(s.trials), -self.as_metric(s.shown.mean)))

    @property
    def best(self) -> Setting | None:
        """The best setting that came to its end."""
        return next(iter(self.ranked), None)

    @property
    def states(self) -> dict[str, int]:
        """Trials by how they ended."""
        return dict(Counter(trial.state for trial in self.trials))

    @property
    def epochs(self) -> dict[str, float]:
        """What was trained of the last phase, and what stopping trials early has saved.

        `trained` epochs of `to_the_end`, which the settings' first trainings would have taken, but
        for those that failed or diverged; `saved` is the share of these that was not trained.
        Repeats are never stopped.
        """
        compared = [t for t in self.trials if t.repeat == 0 and t.state in ("finished", "pruned")]
        trained, whole = sum(t.epochs for t in compared), len(compared) * self.num_epochs
        saved = 1 - trained / whole if whole else 0.0
        return {"trained": trained, "to_the_end": whole, "saved": saved}

    @property
    def numbers(self) -> dict[str, float]:
        """For MLflow, by metric."""
        epochs = {f"sweep/epochs_{name}": float(value) for name, value in self.epochs.items()}
        return epochs | {f"sweep/trials_{k}": float(v) for k, v in self.states.items()}


def write_sweep_report(folder: Path, report: SweepReport) -> None:
    """Writes `sweep.md`, `sweep.csv`, `curves.png`, and a `field_NAME.png` a searched setting."""
    heading, rows = _trial_table(report)
    write_csv(folder / "sweep.csv", heading, rows)
    curves_chart(report.title, report.metric, report.trials, report.as_metric).savefig(
        folder / "curves.png", dpi=150
    )
    pictures = ["curves.png"]
    for name, space in report.space.items():
        pictures.append(f"field_{name}.png")
        chart = field_chart(name, space, report.metric, report.trials, report.as_metric)
        chart.savefig(folder / pictures[-1], dpi=150)
    lines = [*_summary(report), "", *_markdown(heading, rows)]
    for picture in pictures:
        lines += ["", f"![{picture}]({picture})"]
    write_lines(folder / "sweep.md", lines)


def _trial_table(report: SweepReport) -> tuple[list[str], list[list[Any]]]:
    """Returns the heading and a row for each trial: the finished ones first, the best of them
    before the others."""
    names = list(report.space)
    order = ("finished", "pruned", "diverged", "failed", "running")

    def place(trial: Trial) -> tuple[int, float]:
        return order.index(trial.state), -(trial.score if trial.score is not None else -1e9)

    rows: list[list[Any]] = []
    for trial in sorted(report.trials, key=place):
        score = None if trial.score is None else report.as_metric(trial.score)
        values = [trial.values[name] for name in names]
        ending = (trial.seed, trial.state, trial.epochs, score, trial.error or "")
        rows.append([trial.name, *values, *ending])
    return ["trial", *names, "seed", "state", "epochs", report.metric, "error"], rows


def _summary(report: SweepReport) -> list[str]:
    """Returns the lines of Markdown that stand before the trials and the charts."""
    epochs, best = report.epochs, report.best
    text = [f"# {report.title}", ""]
    text.append(", ".join(f"{number} {state}" for state, number in report.states.items()) + ".")
    text.append(
        f"Trained {epochs['trained']:g} of the {epochs['to_the_end']:g} epochs that all settings "
        f"would have taken to the end: {epochs['saved']:.0%} saved. Repeats with other seeds, and "
        "trials that failed or diverged, are not counted in this."
    )
    text.append(
        f"`{report.metric}` is the best epoch's, on the validation split, which chose it: of the "
        "best of many trials it is a little flattering. Pruned trials had fewer epochs: in the "
        "charts of settings, bars are of all trials after as many epochs as each of them has had, "
        "without those that failed or diverged and, where any was pruned, without repeats."
    )
    if best is not None:
        text += ["", f"Best setting ({best.trials[0].name}): {best.shown}", ""]
        text += [f"- `{name}`: {_cell(value) or '-'}" for name, value in best.values.items()]
    if report.seeds > 1:
        text += ["", *_settings_table(report)]
    return text


def _settings_table(report: SweepReport) -> list[str]:
    """Mean, deviation and interval of the settings' repeats, best first."""
    names = list(report.space)
    rows: list[list[Any]] = []
    for setting in report.ranked:
        low, high = setting.shown.interval or (None, None)
        values = [setting.values[name] for name in names]
        rows.append(
            [*values, setting.shown.num, setting.shown.mean, setting.shown.deviation, low, high]
        )
    return _markdown([*names, "runs", "mean", "deviation", "95 % from", "to"], rows)


def _markdown(heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    return markdown_table(heading, [[_cell(value) for value in row] for row in rows])


def _cell(value: object) -> str | None:
    return None if value is None else format_value(value).replace("|", "/")
