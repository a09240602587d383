"""Charts of a sweep: a curve a trial, and what each searched setting does."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cluster.spaces import Space
from cluster.sweep_record import Trial

FINISHED = "#1f5fa8"
BEST = "#d1495b"
PRUNED = "#b8bec6"
MOST_GROUPS = 5
LEAST_OF_A_GROUP = 3

Shown = Callable[[float], float]
"""A score as the metric that it is made of."""


def curves_chart(title: str, metric: str, trials: Sequence[Trial], shown: Shown) -> Figure:
    """The metric by epoch, a line a trial; where a trial was stopped, its line ends in a cross."""
    figure, axes = _figure(title, metric)
    scores = {t.name: t.score for t in trials if t.state == "finished" and t.score is not None}
    best = max(scores, key=scores.__getitem__, default=None)
    for trial in sorted(trials, key=lambda t: (t.name == best, t.state == "finished")):
        if not trial.curve:
            continue
        epochs = sorted(trial.curve)
        values = [shown(trial.curve[epoch]) for epoch in epochs]
        finished = trial.state == "finished"
        colour = BEST if trial.name == best else FINISHED if finished else PRUNED
        axes.plot(epochs, values, color=colour, linewidth=2 if trial.name == best else 1)
        axes.plot(epochs[-1], values[-1], "o" if finished else "x", color=colour, markersize=4)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for label, colour in (("best", BEST), ("finished", FINISHED), ("stopped", PRUNED)):
        axes.plot([], [], color=colour, label=label)
    axes.legend(frameon=False, fontsize=8)
    return figure


def field_chart(space: Space, metric: str, trials: Sequence[Trial], shown: Shown) -> Figure:
    """The metric against a searched setting.

    A dot a finished trial, a cross one that was stopped (of fewer epochs: it says no more than that
    it was behind). The bars are mean and standard deviation of the finished trials at a value, or,
    over a range, in each of two to five groups of equally many, where there are enough.
    """
    figure, axes = _figure(f"{metric} against {space.name}", metric)
    by_name = space.kind == "values" and not all(_is_number(v) for v in space.values)
    place = {value: float(i) for i, value in enumerate(space.values)} if by_name else None

    def points(*states: str) -> tuple[list[float], list[float]]:
        chosen = [t for t in trials if t.state in states and t.score is not None]
        xs = [t.values[space.name] for t in chosen]
        ys = [shown(t.score) for t in chosen if t.score is not None]
        return [place[x] if place else float(x) for x in xs], ys

    axes.plot(*points("pruned", "running"), "x", color=PRUNED, markersize=5, label="stopped")
    xs, ys = points("finished")
    axes.plot(xs, ys, "o", color=FINISHED, markersize=5, alpha=0.6, label="finished")
    bars = _spread(np.array(xs), np.array(ys), in_groups=space.kind != "values")
    if bars:
        at, means, deviations = zip(*bars, strict=True)
        axes.errorbar(
            at, means, deviations, color=BEST, capsize=4, marker="_", linewidth=1, label="mean, sd"
        )
    if place is not None:
        axes.set_xticks(list(place.values()), [str(value) for value in place])
    elif space.kind == "log":
        axes.set_xscale("log")
    elif space.kind == "values":
        axes.set_xticks([float(value) for value in space.values])
    axes.set_xlabel(space.name)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _spread(xs: np.ndarray, ys: np.ndarray, in_groups: bool) -> list[tuple[float, float, float]]:
    """Place, mean and standard deviation of each value's points, or of groups of them; of those
    alone the deviation is 0."""
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


def _figure(title: str, metric: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_ylabel(metric)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    return figure, axes


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
