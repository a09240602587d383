"""Charts in the project's look: figures, grouped bars, and colours by what they mean."""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Figure


class Colour(StrEnum):
    """The colours of all charts, each named after what it stands for."""

    MODEL = "#1f5fa8"
    """The model or the trainings that a chart is about."""
    BASELINE = "#7a8794"
    """The two-stage iCNN, and its cropper."""
    FROZEN = "#e0a458"
    """STN-iCNN*, of which the fine networks alone are trained."""
    COMPARED = "#d1495b"
    """The object of a comparison: the paper's values, another training, the best trial."""
    MUTED = "#b8bec6"
    """The background, such as trials that were stopped."""


SYSTEM_COLOURS: Final[Mapping[str, str]] = {
    "iCNN": Colour.BASELINE,
    "STN-iCNN*": Colour.FROZEN,
    "STN-iCNN": Colour.MODEL,
}
"""Colours of the paper's systems."""

Heights = Sequence[float | None]


def open_figure(*titles: str, width: float = 7.0, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """Returns an empty figure in the project's look.

    It is independent of pyplot, whose figures stay in memory until they are closed.

    Args:
        titles: one for each of the axes, which stand side by side; it may be empty.
        width: width of the figure, inches; a picture of it has 150 pixels an inch.
        height: height of the figure, inches.

    Returns:
        The figure and its axes.
    """
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, len(titles), squeeze=False)[0])
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title, loc="left", fontsize=10)
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y", alpha=0.3)
        one.set_axisbelow(True)
    return figure, axes


def add_legend(figure: Figure, columns: int = 4) -> None:
    """Draws the legend of the figure's first axes below all of them."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = min(columns, len(labels))
    figure.legend(
        handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=8
    )


def save_with_legend(figure: Figure, path: Path, columns: int = 4) -> None:
    """Adds the legend and writes the figure as a PNG file."""
    add_legend(figure, columns)
    figure.savefig(path)


def draw_grouped_bars(
    axes: Axes,
    groups: Sequence[str],
    heights: Mapping[str, Heights],
    *,
    colours: Mapping[str, str] = SYSTEM_COLOURS,
    label_format: str | None = None,
    errors: Mapping[str, Any] | None = None,
) -> dict[str, list[float]]:
    """Draws groups of bars, one bar in each group for every series.

    Args:
        axes: the axes to draw on.
        groups: names of the groups, written below them.
        heights: by series, a height for each group; there is no bar where it is None.
        colours: by series; others are in `Colour.MODEL`.
        label_format: format of the heights above the bars, such as `%.3f`; None: no labels.
        errors: by series, lengths below and above the ends of the bars, `[2, groups]`.

    Returns:
        By series, x of the bars' centres.
    """
    width = 0.8 / len(heights)
    centres = {}
    for i, (name, of_series) in enumerate(heights.items()):
        shift = (i - (len(heights) - 1) / 2) * width
        centres[name] = [x + shift for x in range(len(groups))]
        bars = axes.bar(
            centres[name],
            [math.nan if value is None else value for value in of_series],
            0.95 * width,
            yerr=errors[name] if errors else None,
            capsize=2,
            label=name,
            color=colours.get(name, Colour.MODEL),
        )
        if label_format:
            axes.bar_label(bars, fmt=label_format, fontsize=7, padding=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.tick_params(axis="x", length=0)
    return centres
