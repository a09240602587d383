"""Charts of a sweep: the curve of each trial, and the metric against each searched setting."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from optuna.distributions import FloatDistribution, IntDistribution

from cluster.sweep.spaces import Distribution, all_values, is_number
from cluster.sweep.sweep_record import Trial
from stn_icnn.reporting.charts import Colour, Figure, add_legend, open_figure
from stn_icnn.training.phases import SelectionMetric

MAX_BARS = 16
"""The most values of a setting that have a bar each; with more, bars are of groups of trials."""
MAX_GROUPS = 5
MIN_TRIALS_PER_GROUP = 3


def curves_chart(title: str, metric: SelectionMetric, trials: Sequence[Trial]) -> Figure:
    """Draws the metric by epoch, a line for each trial; that of a stopped one ends in a cross."""
    figure, (axes,) = open_figure(title)
    axes.set(xlabel="epoch", ylabel=metric.name)
    scores = {t.name: t.score for t in trials if t.state == "finished" and t.score is not None}
    best = max(scores, key=scores.__getitem__, default=None)
    for trial in sorted(trials, key=lambda t: (t.name == best, t.state == "finished")):
        if not trial.curve:
            continue
        epochs = sorted(trial.curve)
        values = [metric.score(trial.curve[epoch]) for epoch in epochs]
        finished = trial.state == "finished"
        ordinary = Colour.MODEL if finished else Colour.MUTED
        colour = Colour.COMPARED if trial.name == best else ordinary
        axes.plot(epochs, values, color=colour, linewidth=2 if trial.name == best else 1)
        axes.plot(epochs[-1], values[-1], "o" if finished else "x", color=colour, markersize=4)
    axes.locator_params(axis="x", integer=True)
    meanings = {"best": Colour.COMPARED, "finished": Colour.MODEL, "stopped": Colour.MUTED}
    for label, colour in meanings.items():
        axes.plot([], [], color=colour, label=label)
    add_legend(figure)
    return figure


def setting_chart(
    name: str, space: Distribution, metric: SelectionMetric, trials: Sequence[Trial]
) -> Figure:
    """Draws the metric against a searched setting.

    A dot is a finished trial, a cross one that was stopped: it had fewer epochs, so that it says no
    more than that it was behind. The bars are mean and standard deviation at each value or, where
    there are many values and enough trials, in each of two to five groups of equally many trials.
    They are of all trials after as many epochs as each of them has had, since a mean over those
    that were not stopped would flatter the values of which most were stopped.

    Args:
        name: the setting's dotted name.
        space: the values that were searched.
        metric: what trials are compared by.
        trials: all trials of the sweep.
    """
    figure, (axes,) = open_figure(f"{metric.name} against {name}")
    axes.set(xlabel=name, ylabel=metric.name)
    values = all_values(space)
    is_ordered = all(is_number(value) for value in values[:1])
    position = None if is_ordered else {value: float(i) for i, value in enumerate(values)}

    def points(
        chosen: Sequence[Trial], epochs: float = math.inf
    ) -> tuple[list[float], list[float]]:
        xs = [t.values[name] for t in chosen]
        best = [max(score for epoch, score in t.curve.items() if epoch <= epochs) for t in chosen]
        return [position[x] if position else float(x) for x in xs], [*map(metric.score, best)]

    compared = [t for t in trials if t.curve and t.state in ("finished", "pruned")]
    finished = [t for t in compared if t.state == "finished"]
    pruned = [t for t in compared if t.state == "pruned"]
    if pruned:
        axes.plot(*points(pruned), "x", color=Colour.MUTED, markersize=5, label="stopped")
        compared = [t for t in compared if t.repeat == 0]  # no pruned combination is repeated
    axes.plot(*points(finished), "o", color=Colour.MODEL, markersize=5, alpha=0.6, label="finished")
    shared = min((t.epochs for t in compared), default=0)
    in_groups = position is None and not 0 < len(values) <= MAX_BARS
    xs, ys = map(np.array, points(compared, shared))
    _draw_bars(axes, xs, ys, in_groups, f"mean, sd of all up to epoch {shared}")
    if position is not None:
        axes.set_xticks(list(position.values()), [str(value) for value in position])
    elif isinstance(space, IntDistribution | FloatDistribution) and space.log:
        axes.set_xscale("log")
    elif not in_groups:
        axes.set_xticks([float(value) for value in values])
    add_legend(figure)
    return figure


def _draw_bars(axes: Axes, xs: np.ndarray, ys: np.ndarray, in_groups: bool, label: str) -> None:
    """Draws mean and standard deviation of the points at each value, or in each group.

    The deviation of a single point is 0.
    """
    if in_groups:
        num_groups = min(MAX_GROUPS, len(xs) // MIN_TRIALS_PER_GROUP)
        order = np.argsort(xs, kind="stable")
        groups = np.array_split(order, num_groups) if num_groups > 1 else []
    else:
        groups = [np.flatnonzero(xs == x) for x in np.unique(xs)]
    if groups:
        at = [np.median(xs[group]) for group in groups]
        means = [ys[group].mean() for group in groups]
        deviations = [ys[group].std(ddof=1) if len(group) > 1 else 0.0 for group in groups]
        style: dict[str, Any] = {"color": Colour.COMPARED, "capsize": 4, "marker": "_"}
        axes.errorbar(at, means, deviations, label=label, linewidth=1, **style)
