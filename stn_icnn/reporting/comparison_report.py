"""The page of a comparison of runs: the answer first, then classes, faces, curves and settings."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from stn_icnn.reporting.charts import Colour, Figure, add_legend, open_figure
from stn_icnn.reporting.comparison import (
    COMPARED_CURVES,
    ComparedRun,
    Comparison,
    differing_settings_table,
)
from stn_icnn.reporting.gallery import WRONG, class_colours
from stn_icnn.reporting.overlay import marked_on_grey, model_labels, overlay
from stn_icnn.reporting.pages import figure_svg, picture_data, render_page
from stn_icnn.reporting.picture_grid import fitted
from stn_icnn.reporting.run_charts import HEIGHT, WIDTH
from stn_icnn.reporting.small_faces import SmallFace
from stn_icnn.reporting.tables import Table, f1_headings, format_f1, format_minutes
from stn_icnn.scoring.f1 import f1_tensors

NUM_FACES: Final = 4
"""The most faces that are shown as gained, and as lost."""
PICTURE_PX: Final = 224
"""The longer side of a face's pictures, px."""
RIGHT: Final = (44, 150, 90)
"""The colour of pixels whose label is right with the other run alone."""
RUN_COLOURS: Final = (Colour.BASELINE, Colour.MODEL, Colour.COMPARED, Colour.FROZEN)
"""The colours of runs, the first run's first; further ones begin again, with broken lines."""


def write_comparison_report(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Writes the page of runs that were compared with one run, which needs nothing but itself.

    Args:
        path: the file to write, in an existing folder.
        comparisons: one or more, all with the same first run.
    """
    first = comparisons[0].first
    runs = [first, *(one.other for one in comparisons)]
    label_set = comparisons[0].label_set
    others = " and ".join(run.name for run in runs[1:])
    page = render_page(
        "comparison.html",
        title=f"{others} compared with {first.name}",
        first=first,
        runs=runs,
        colours={run.name: str(RUN_COLOURS[i % len(RUN_COLOURS)]) for i, run in enumerate(runs)},
        comparisons=comparisons,
        shares={one.other.name: one.share_better for one in comparisons},
        gallery={one.other.name: _changed_faces(one) for one in comparisons},
        differences_chart=_differences_chart(comparisons),
        curves=_curves(runs),
        settings=differing_settings_table(runs),
        untrained=[run.name for run in runs if not run.settings],
        facts=_facts_table(runs),
        class_colours=class_colours(label_set),
    )
    path.write_text(page, encoding="utf-8")


@dataclass(frozen=True)
class ChangedFace:
    """A face on which two runs differ, as the page shows it."""

    key: str
    difference: str
    """The other run's overall F1 minus the first run's."""
    row: str
    """The class that changed most, with its difference."""
    pictures: Mapping[str, str]
    """The addresses of its pictures, by what they show."""


def _changed_faces(comparison: Comparison) -> dict[str, list[ChangedFace]] | None:
    """Returns the faces that gained and those that lost most; None without pairs."""
    if comparison.counts is None:
        return None
    first, other = (f1_tensors(one, comparison.label_set) for one in comparison.counts)
    steps = {row: other[row] - first[row] for row in comparison.label_set.f1_rows}
    overall = steps["overall"].nan_to_num(nan=0.0)
    order = overall.argsort(stable=True).tolist()
    changed = {
        "gained": [i for i in reversed(order) if overall[i] > 0][:NUM_FACES],
        "lost": [i for i in order if overall[i] < 0][:NUM_FACES],
    }
    headings = f1_headings(comparison.label_set)

    def shown(i: int, sign: int) -> ChangedFace:
        of_rows = {
            row: sign * float(step[i])
            for row, step in steps.items()
            if row != "overall" and not torch.isnan(step[i])
        }
        row = max(of_rows, key=of_rows.__getitem__)
        return ChangedFace(
            key=comparison.keys[i],
            difference=f"{overall[i]:+.3f}",
            row=f"{headings[row]} {sign * of_rows[row]:+.3f}",
            pictures=_pictures(
                comparison, comparison.keys[i], [float(one["overall"][i]) for one in (first, other)]
            ),
        )

    signs = {"gained": 1, "lost": -1}
    return {kind: [shown(i, signs[kind]) for i in places] for kind, places in changed.items()}


def _pictures(comparison: Comparison, key: str, f1: Sequence[float]) -> dict[str, str]:
    """Returns the pictures of a face by what they show: photograph, truth, both runs, changes.

    Args:
        comparison: the comparison, in pairs.
        key: the face's key.
        f1: the face's overall F1 with the first and with the other run.
    """
    a, b, label_set = comparison.first, comparison.other, comparison.label_set
    ours, theirs = _small_face(a, key), _small_face(b, key)
    photo = fitted(np.asarray(Image.open(io.BytesIO(ours.photo)).convert("RGB")), PICTURE_PX)
    size = photo.shape[1], photo.shape[0]
    truth, before, after = (
        model_labels(
            np.asarray(Image.open(io.BytesIO(file)).resize(size, Image.Resampling.NEAREST)),
            label_set,
        )
        for file in (ours.truth, ours.predicted, theirs.predicted)
    )
    was_right, is_right = before == truth, after == truth
    pictures = {
        "photograph": photo,
        "truth": overlay(photo, truth, label_set),
        f"{a.name}: {format_f1(f1[0])}": overlay(photo, before, label_set),
        f"{b.name}: {format_f1(f1[1])}": overlay(photo, after, label_set),
        "what changed": marked_on_grey(
            photo, (is_right & ~was_right, RIGHT), (was_right & ~is_right, WRONG)
        ),
    }
    return {name: picture_data(picture) for name, picture in pictures.items()}


def _small_face(run: ComparedRun, key: str) -> SmallFace:
    assert run.results is not None  # its comparison is in pairs
    return run.results.faces[list(run.results.keys).index(key)]


def _differences_chart(comparisons: Sequence[Comparison]) -> Any:
    """Returns the chart of paired differences by class; None where there are none."""
    paired = [one for one in comparisons if one.differences]
    if not paired:
        return None
    title = f"F1 minus that of {paired[0].first.name}"
    return figure_svg(draw_differences(title, comparisons), title)


def draw_differences(title: str, comparisons: Sequence[Comparison]) -> Figure:
    """Draws paired differences with their intervals, a line for each class, overall first.

    Args:
        title: the chart's heading.
        comparisons: the comparisons; those without pairs are left out.
    """
    paired = {row for one in comparisons for row in one.differences}
    headings = f1_headings(comparisons[0].label_set)
    rows = [row for row in dict.fromkeys(("overall", *headings)) if row in paired]
    figure, (axes,) = open_figure(title, width=8.5, height=1.3 + 0.36 * len(rows))
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", alpha=0.3)
    axes.axvline(0, color=RUN_COLOURS[0], linewidth=1.2)
    for i, comparison in enumerate(comparisons, start=1):
        shown = [row for row in rows if row in comparison.differences]
        if not shown:
            continue
        of_rows = [comparison.differences[row] for row in shown]
        means = [one.over_seeds.mean for one in of_rows]
        ends = [
            (mean - one.interval[0], one.interval[1] - mean)
            for mean, one in zip(means, of_rows, strict=True)
        ]
        shift = 0.22 * (i - (len(comparisons) + 1) / 2)
        axes.errorbar(
            means,
            [rows.index(row) + shift for row in shown],
            xerr=np.clip(np.transpose(ends), 0, None),
            fmt="o",
            markersize=4.5,
            capsize=3,
            color=RUN_COLOURS[i % len(RUN_COLOURS)],
            label=comparison.other.name,
        )
    axes.set_yticks(range(len(rows)), [headings[row] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("difference in F1, 95 % interval over images")
    add_legend(figure)
    return figure


def _curves(runs: Sequence[ComparedRun]) -> dict[str, list[Any]]:
    """Returns the charts of each phase that some run has been through, by its name in words."""
    phases = dict.fromkeys(phase for run in runs for phase in run.history)
    charts = {
        phase.replace("_", " "): [
            figure_svg(figure, f"{phase}: {name}")
            for metric, name in COMPARED_CURVES.items()
            if (figure := draw_compared_curves(name, metric, phase, runs)) is not None
        ]
        for phase in phases
    }
    return {phase: of_phase for phase, of_phase in charts.items() if of_phase}


def draw_compared_curves(
    title: str, metric: str, phase: str, runs: Sequence[ComparedRun]
) -> Figure | None:
    """Draws a metric over the epochs of a phase, a curve for each run that has it.

    Args:
        title: the chart's heading.
        metric: the metric's name.
        phase: the phase's name.
        runs: the runs, the first of which the others are compared with.

    Returns:
        The chart; None where no run has a value.
    """
    points = {
        i: [
            (epoch["epoch"], value)
            for epoch in run.history.get(phase, ())
            if (value := epoch.get(metric)) is not None
        ]
        for i, run in enumerate(runs)
    }
    if not any(points.values()):
        return None
    figure, (axes,) = open_figure(title, width=WIDTH, height=HEIGHT)
    for i, of_run in points.items():
        if not of_run:
            continue
        axes.plot(
            *zip(*of_run, strict=True),
            "o-" if i < len(RUN_COLOURS) else "o--",
            color=RUN_COLOURS[i % len(RUN_COLOURS)],
            markersize=3 if i else 5,
            linewidth=1.3 if i else 3.5,  # to be seen below another of the same values
            label=runs[i].name,
        )
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("epoch")
    add_legend(figure)
    return figure


def _facts_table(runs: Sequence[ComparedRun]) -> Table:
    """Returns what the runs are, a column for each."""
    facts = [_facts(run) for run in runs]
    names = dict.fromkeys(name for one in facts for name in one)
    rows = [[name, *(one.get(name) for one in facts)] for name in names]
    return Table(["", *(run.name for run in runs)], rows)


def _facts(run: ComparedRun) -> dict[str, object]:
    facts: dict[str, object] = {
        "overall F1": format_f1(run.f1.get("overall")),
        "run": run.run_id,
        "scored on": run.split,
        "fingerprint of the shards": run.fingerprint and f"{run.fingerprint[:12]}…",
    }
    results = run.results
    if results is None:
        return facts
    facts |= {
        "kind": results.kind,
        "system": results.model,
        "scored on": f"{len(results.keys)} {run.split} images of {results.data.name}",
        "shards": results.data.location,
        "commit": results.commit,
        "command": results.command,
    }
    if training := results.training:
        facts |= {
            "started from": training.base,
            "images trained on": training.num_images,
            "minutes of training": format_minutes(training.total_minutes),
            "on": "; ".join(training.all_machines) or None,
        }
    return facts
