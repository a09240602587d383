"""The charts of a run's page: curves of its phases, F1 against the size of a part."""

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from stn_icnn.labels import LabelSet
from stn_icnn.reporting.charts import Colour, Figure, add_legend, open_figure
from stn_icnn.reporting.run_results import History
from stn_icnn.scoring.f1 import f1_tensor

LOSSES: Final = {"train/loss": "training", "val/loss": "validation"}
F1_SCORES: Final = {"val/f1_overall": "overall", "val/faces_f1": "faces found in scenes"}
_COLOURS: Final = {
    "training": Colour.MODEL,
    "validation": Colour.COMPARED,
    "overall": Colour.COMPARED,
    "faces found in scenes": Colour.MODEL,
}

NUM_BINS: Final = 8
"""The most points of a curve against size."""
LEAST_PARTS: Final = 5
"""The least number of parts that a point is the mean of."""
WIDTH: Final = 5.4
HEIGHT: Final = 3.5


def draw_curves(
    title: str, metrics: Mapping[str, str], history: History, log: bool = False
) -> Figure:
    """Draws metrics over the epochs of all phases, one phase after another.

    Args:
        title: the chart's heading.
        metrics: the names that the metrics have in the legend; one that no phase has is left out.
        history: the phases.
        log: whether the scale is logarithmic, as losses of phases are of different sizes.
    """
    figure, (axes,) = open_figure(title, width=WIDTH, height=HEIGHT)
    if log:
        axes.set_yscale("log")
    done, named = 0, set[str]()
    for number, (phase, epochs) in enumerate(history.items()):
        for metric, name in metrics.items():
            points = [(done + i, epoch.get(metric)) for i, epoch in enumerate(epochs, start=1)]
            defined = [point for point in points if point[1] is not None]
            if not defined:
                continue
            axes.plot(
                *zip(*defined, strict=True),
                "-o",
                color=_COLOURS[name],
                markersize=3,
                linewidth=1.3,
                label=None if name in named else name,
            )
            named.add(name)
        if number:
            axes.axvline(done + 0.5, color=Colour.MUTED, linewidth=0.8)
        at = done + len(epochs) / 2 + 0.5
        words = phase.replace("_", " ")
        axes.text(at, 1.0, words, transform=axes.get_xaxis_transform(), ha="center", va="bottom",
                  fontsize=8, color=Colour.BASELINE)  # fmt: skip
        done += len(epochs)
    axes.set_title(title, loc="left", fontsize=10, pad=16)
    axes.set_xlim(0.5, done + 0.5)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("epoch")
    add_legend(figure)
    return figure


def draw_f1_by_size(counts: Tensor, label_set: LabelSet) -> Figure:
    """Draws the mean F1 of parts against their size, a curve for each fine network's parts.

    Args:
        counts: confusion counts of each image, int64 `[M, C, C]`, rows truth, columns prediction.
        label_set: the C classes, and the parts.
    """
    figure, (axes,) = open_figure("F1 of a part by its size", width=WIDTH, height=HEIGHT)
    for network, parts in label_set.parts_of_network.items():
        of_parts = [label_set.part_classes[part] for part in parts]
        f1 = torch.cat([f1_tensor(counts, classes) for classes in of_parts])
        pixels = torch.cat([counts[:, list(c)].sum(dim=(1, 2)) for c in of_parts])
        there = pixels > 0
        points = binned_means(pixels[there].double().sqrt(), f1[there])
        red, green, blue = label_set.colours[of_parts[0][0]]
        axes.plot(
            *(zip(*points, strict=True) if points else ((), ())),
            "-o",
            color=f"#{red:02x}{green:02x}{blue:02x}",
            markersize=3.5,
            label=network,
        )
    axes.set_xlabel("size: side of a square of as many pixels, px")
    axes.set_ylabel("mean F1")
    axes.set_ylim(top=1)
    add_legend(figure)
    return figure


def binned_means(x: Tensor, y: Tensor) -> list[tuple[float, float]]:
    """Returns the means of x and y in bins of equally many points, in the order of x.

    Args:
        x: float64 `[K]`.
        y: float64 `[K]`.

    Returns:
        At most `NUM_BINS` points, each the mean of at least `LEAST_PARTS` where there are as many.
    """
    num_bins = max(1, min(NUM_BINS, len(x) // LEAST_PARTS))
    order = x.argsort(stable=True)
    bins = zip(x[order].tensor_split(num_bins), y[order].tensor_split(num_bins), strict=True)
    means = [(float(xs.mean()), float(ys.mean())) for xs, ys in bins]
    return [point for point in means if not any(map(math.isnan, point))]
