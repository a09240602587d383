"""Charts of a sweep: the curve of each trial, and the metric against each searched setting."""

from collections.abc import Callable, Sequence

import numpy as np
from optuna.distributions import FloatDistribution, IntDistribution

from cluster.sweep.spaces import Distribution, all_values, is_number
from cluster.sweep.sweep_record import Trial
from stn_icnn.reporting.charts import Colour, Figure, add_legend, open_figure

MOST_VALUES = 16
"""Values of a setting, at most, that have a bar each."""
MOST_GROUPS = 5
LEAST_OF_A_GROUP = 3

Shown = Callable[[float], float]
"""Returns the metric that a score was made of."""


def curves_chart(title: str, metric: str, trials: Sequence[Trial], shown: Shown) -> Figure:
    """Draws the metric by epoch, a line for each trial; that of a stopped one ends in a cross."""
    figure, (axes,) = open_figure(title)
    axes.set_ylabel(metric)
    scores = {t.name: t.score for t in trials if t.state == "finished" and t.score is not None}
    best = max(scores, key=scores.__getitem__, default=None)
    for trial in sorted(trials, key=lambda t: (t.name == best, t.state == "finished")):
        if not trial.curve:
            continue
        epochs = sorted(trial.curve)
        values = [shown(trial.curve[epoch]) for epoch in epochs]
        finished = trial.state == "finished"
        ordinary = Colour.MODEL if finished else Colour.MUTED
        colour = Colour.COMPARED if trial.name == best else ordinary
        axes.plot(epochs, values, color=colour, linewidth=2 if trial.name == best else 1)
        axes.plot(epochs[-1], values[-1], "o" if finished else "x", color=colour, markersize=4)
    axes.set_xlabel("epoch")
    axes.locator_params(axis="x", integer=True)
    meanings = {"best": Colour.COMPARED, "finished": Colour.MODEL, "stopped": Colour.MUTED}
    for label, colour in meanings.items():
        axes.plot([], [], color=colour, label=label)
    add_legend(figure)
    return figure


def field_chart(
    name: str, space: Distribution, metric: str, trials: Sequence[Trial], shown: Shown
) -> Figure:
    """Draws the metric against a searched setting.

    A dot is a finished trial, a cross one that was stopped: it had fewer epochs, so that it says no
    more than that it was behind. The bars are mean and standard deviation at each value or, where
    there are many values and enough trials, in each of two to five groups of equally many trials.
    They are of all trials after as many epochs as each of them has had, since a mean over those
    that were not stopped would flatter the values of which most were stopped.
    """
    figure, (axes,) = open_figure(f"{metric} against {name}")
    axes.set_ylabel(metric)
    values = all_values(space)
    is_ordered = all(is_number(value) for value in values[:1])
    position = None if is_ordered else {value: float(i) for i, value in enumerate(values)}

    def points(chosen: Sequence[Trial], epochs: int) -> tuple[list[float], list[float]]:
        xs = [t.values[name] for t in chosen]
        best = [max(score for epoch, score in t.curve.items() if epoch <= epochs) for t in chosen]
        return [position[x] if position else float(x) for x in xs], [shown(score) for score in best]

    compared = [t for t in trials if t.curve and t.state in ("finished", "pruned")]
    finished = [t for t in compared if t.state == "finished"]
    pruned = [t for t in compared if t.state == "pruned"]
    whole = max((t.epochs for t in compared), default=0)
    if pruned:
        axes.plot(*points(pruned, whole), "x", color=Colour.MUTED, markersize=5, label="stopped")
    axes.plot(
        *points(finished, whole), "o", color=Colour.MODEL, markersize=5, alpha=0.6, label="finished"
    )
    if pruned:  # repeats are of combinations that were not stopped
        compared = [t for t in compared if t.repeat == 0]
    shared = min((t.epochs for t in compared), default=0)
    xs, ys = points(compared, shared)
    in_groups = position is None and not 0 < len(values) <= MOST_VALUES
    bars = _spread(np.array(xs), np.array(ys), in_groups)
    if bars:
        at, means, deviations = zip(*bars, strict=True)
        label = f"mean, sd of all up to epoch {shared}"
        axes.errorbar(
            at,
            means,
            deviations,
            color=Colour.COMPARED,
            capsize=4,
            marker="_",
            linewidth=1,
            label=label,
        )
    if position is not None:
        axes.set_xticks(list(position.values()), [str(value) for value in position])
    elif isinstance(space, IntDistribution | FloatDistribution) and space.log:
        axes.set_xscale("log")
    elif not in_groups:
        axes.set_xticks([float(value) for value in values])
    axes.set_xlabel(name)
    add_legend(figure)
    return figure


def _spread(xs: np.ndarray, ys: np.ndarray, in_groups: bool) -> list[tuple[float, float, float]]:
    """Returns position, mean and standard deviation of the points at each value, or in each of
    several groups; the deviation of a single point is 0."""
    if in_groups:
        num_groups = min(MOST_GROUPS, len(xs) // LEAST_OF_A_GROUP)
        order = np.argsort(xs, kind="stable")
        groups = np.array_split(order, num_groups) if num_groups > 1 else []
    else:
        groups = [np.flatnonzero(xs == x) for x in np.unique(xs)]
    return [
        (
            float(np.median(xs[group])),
            float(ys[group].mean()),
            float(ys[group].std(ddof=1)) if len(group) > 1 else 0.0,
        )
        for group in groups
    ]
