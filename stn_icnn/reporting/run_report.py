"""The page of a run: which class is worst, on which face, and all that led to it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup
from torch import Tensor

from stn_icnn.labels import LabelSet
from stn_icnn.reporting.charts import Figure
from stn_icnn.reporting.documents import PAGE
from stn_icnn.reporting.f1_report import draw_f1_chart
from stn_icnn.reporting.gallery import Gallery
from stn_icnn.reporting.pages import figure_svg, render_page
from stn_icnn.reporting.picture_grid import Drawings
from stn_icnn.reporting.run_charts import F1_SCORES, LOSSES, draw_curves, draw_f1_by_size
from stn_icnn.reporting.run_results import RunResults, TrainingSummary
from stn_icnn.reporting.tables import Table, f1_headings, format_f1, format_minutes
from stn_icnn.scoring.examples import ScoredFace
from stn_icnn.scoring.f1 import bootstrap_interval, weakest_row
from stn_icnn.scoring.published import PAPER_STN_ICNN, beside_published


def write_run_report(
    folder: Path, results: RunResults, examples: Mapping[str, Sequence[ScoredFace]]
) -> dict[str, str]:
    """Writes a run's `report.html`, which needs nothing but itself.

    A face or chart that cannot be drawn is named on the page instead.

    Args:
        folder: an existing folder.
        results: the results of the run.
        examples: the faces to show, by kind, as `pick_examples` names them.

    Returns:
        Why faces and charts could not be drawn, by name.
    """
    shown = Gallery.of(results, examples)
    drawings = Drawings()
    counts, label_set = results.counts[results.model], results.label_set
    training = results.training
    page = render_page(
        "run.html",
        title=results.title,
        results=results,
        headline=_headline(results, shown),
        f1=_f1_table(results),
        f1_chart=_chart(
            drawings, "F1 by class", lambda name: draw_f1_chart(name, results.f1, label_set)
        ),
        confusion=_confusion_table(counts.sum(dim=0), label_set),
        size_chart=_chart(
            drawings,
            "F1 against the size of a part",
            lambda _: draw_f1_by_size(counts, label_set),
        ),
        curves=_curves(drawings, training) if training else [],
        examples=shown,
        phases=_phase_table(training) if training else None,
    )
    (folder / PAGE).write_text(page, encoding="utf-8")
    return {**drawings.failed, **shown.failed}


def _chart(drawings: Drawings, name: str, draw: Callable[[str], Figure]) -> Markup:
    """Returns a chart, which `draw` makes of its name, as SVG, or a line that it failed."""
    made = drawings.draw(name, lambda: figure_svg(draw(name), name))
    failure = Markup("<p>The chart <i>{}</i> could not be drawn: {}</p>")
    return failure.format(name, drawings.failed[name]) if made is None else made


def _headline(results: RunResults, shown: Gallery) -> dict[str, Any]:
    """Returns what a reader wants to know first, as texts."""
    numbers, label_set = results.f1, results.label_set
    rows, interval = numbers["systems"][results.model], numbers["overall_interval"][results.model]
    paper = (numbers["paper"] or {"systems": {}})["systems"].get(PAPER_STN_ICNN)
    weakest, overall = weakest_row(rows, label_set), rows["overall"]
    worst = next(iter(shown.faces.get("worst", ())), None)
    return {
        "overall": format_f1(overall) or "-",
        "interval": _range(interval),
        "weakest": f1_headings(label_set)[weakest] if weakest else "-",
        "weakest_f1": format_f1(rows[weakest]) if weakest else None,
        "worst": worst,
        "paper": format_f1(paper["overall"]) if paper else None,
        "difference": f"{overall - paper['overall']:+.3f}"
        if paper and overall is not None
        else None,
        "paper_system": PAPER_STN_ICNN,
    }


def _f1_table(results: RunResults) -> dict[str, Any]:
    """Returns the F1 table: headings, and lines of a system, its style and its cells.

    A cell is F1 and its interval. Columns in which no system has a value are left out.
    """
    numbers, headings = results.f1, f1_headings(results.label_set)
    systems = beside_published(numbers["systems"], results.data.name)
    columns = [row for row in headings if any(one.rows[row] is not None for one in systems)]
    of_model = {
        row: bootstrap_interval(results.counts[results.model], results.label_set, row)
        for row in results.label_set.f1_rows
        if numbers["systems"][results.model][row] is not None
    }
    lines = []
    for name, source, rows in systems:
        overall = {"overall": numbers["overall_interval"].get(name)}
        intervals = of_model if name == results.model else overall
        style = "first" if name == results.model else "" if source == "measured" else "paper"
        cells = [(format_f1(rows[row]) or "-", _range(intervals.get(row))) for row in columns]
        lines.append((name, style, cells))
    return {"headings": [headings[row] for row in columns], "lines": lines}


def _range(interval: Sequence[float] | None) -> str | None:
    return "{:.3f} to {:.3f}".format(*interval) if interval else None


def _confusion_table(counts: Tensor, label_set: LabelSet) -> dict[str, Any]:
    """Returns the confusion of the model's classes, per cent of each true class.

    Pixels of classes that the model does not label count as background.

    Args:
        counts: int64 `[C, C]`, rows truth, columns prediction.
        label_set: the C classes.
    """
    classes = list(label_set.model_classes)
    unlabelled = [i for i in range(label_set.num_classes) if i not in classes]
    known = counts.clone()
    known[0] += known[unlabelled].sum(dim=0)
    known = known[classes][:, classes]
    shares = (100 * known.double() / known.sum(dim=1, keepdim=True)).tolist()
    names = [label_set.class_names[i].replace("_", " ") for i in classes]
    return {"names": names, "rows": [(n, row) for n, row in zip(names, shares, strict=True)]}


def _curves(drawings: Drawings, training: TrainingSummary) -> list[Markup]:
    history = training.history
    charts = [
        ("loss", LOSSES, True),
        ("F1 on the validation split", F1_SCORES, False),
    ]
    return [
        _chart(drawings, title, partial(draw_curves, metrics=metrics, history=history, log=log))
        for title, metrics, log in charts
    ]


def _phase_table(training: TrainingSummary) -> Table:
    rows: list[list[object]] = [
        [
            phase.replace("_", " "),
            len(epochs),
            format_minutes(training.minutes.get(phase)),
            "; ".join(training.machines.get(phase, ())) or None,
        ]
        for phase, epochs in training.history.items()
    ]
    if len(rows) > 1:
        complete = training.history.keys() >= training.machines.keys()
        epochs = sum(map(len, training.history.values())) if complete else None
        rows.append(["all", epochs, format_minutes(training.total_minutes), None])
    return Table(["phase", "epochs", "minutes", "on"], rows)
