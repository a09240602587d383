"""What Figure 5 shows, in numbers: how croppers cut parts that are covered, and those that are not.

The paper gives pictures alone.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, Self

import torch
from torch import Tensor

from stn_icnn.labels import LabelSet
from stn_icnn.reporting.charts import add_legend, draw_grouped_bars, open_figure
from stn_icnn.reporting.tables import escape_markdown, markdown_table, write_csv, write_lines
from stn_icnn.scoring.window_scores import (
    ALL_PARTS,
    FOUND,
    MEASURES,
    Summary,
    WindowScores,
    summarise,
)
from stn_icnn.studies.experiment_result import ExperimentResult

GROUPS: Final = {
    "covered": "covered",
    "covered_missing": "covered, and not in the rough labels",
    "not_covered": "not covered",
}
"""Of parts, and what they are called in tables."""

Summaries = Mapping[tuple[str, str], Summary]
"""By group and cropper."""


@dataclass(frozen=True)
class Croppings:
    """What croppers made of M faces of which parts were covered."""

    keys: tuple[str, ...]
    present: Tensor
    """`[M, P]` bool: which parts a face has."""
    covered: Tensor
    """`[M, P]` bool: which of these were covered."""
    missing: Tensor
    """`[M, P]` bool: which have no pixel in the rough labels."""
    scores: Mapping[str, WindowScores]
    """By cropper."""
    sides_px: Mapping[str, Tensor]
    """Of the windows, by cropper, `[M, P]` float32."""
    label_set: LabelSet
    """The P parts."""

    @classmethod
    def joined(cls, some: Sequence[Self]) -> Self:
        """Those of several batches, with the same croppers."""
        scores = {
            name: WindowScores.joined([c.scores[name] for c in some]) for name in some[0].scores
        }
        return cls(
            keys=tuple(chain.from_iterable(c.keys for c in some)),
            present=torch.cat([c.present for c in some]),
            covered=torch.cat([c.covered for c in some]),
            missing=torch.cat([c.missing for c in some]),
            scores=scores,
            sides_px={name: torch.cat([c.sides_px[name] for c in some]) for name in scores},
            label_set=some[0].label_set,
        )

    def group(self, name: str) -> Tensor:
        """The parts of one of `GROUPS`, `[M, P]` bool."""
        of_group = {
            "covered": self.covered,
            "covered_missing": self.covered & self.missing,
            "not_covered": ~self.covered,
        }
        return of_group[name] & self.present


def write_report(
    folder: Path, croppings: Croppings, shown: Sequence[str], about: str, seed: int
) -> ExperimentResult:
    """Writes `occlusion.md`, `.csv`, `.png` and `occlusion_per_face.csv`.

    Args:
        folder: for them; `occlusion_examples.png` is expected beside them.
        croppings: to be reported.
        shown: the two croppers that charts and the table by part compare.
        about: what was measured, in a sentence or two.
        seed: of the intervals.
    """
    summaries = {
        (group, name): summarise(scores, croppings.group(group), croppings.label_set, seed=seed)
        for group in GROUPS
        for name, scores in croppings.scores.items()
    }
    table, whole_by = _table(summaries, croppings), whole_by_which(croppings, shown)
    text = _markdown(about, table, whole_by, _table_by_part(summaries, shown))
    write_lines(folder / "occlusion.md", text)
    _write_csv(folder / "occlusion.csv", summaries)
    _write_per_face(folder / "occlusion_per_face.csv", croppings)
    _draw_chart(folder / "occlusion.png", summaries, shown)
    result = {
        group: {name: _means(summaries[group, name]) for name in croppings.scores}
        for group in GROUPS
    }
    metrics = {
        f"occlusion/{group}_{measure}_{re.sub('[^A-Za-z]', '', name).lower()}": value
        for group in GROUPS
        for name in shown
        for measure, value in result[group][name].items()
        if value is not None
    }
    counts = {"covered_whole_by": whole_by, "num_faces": len(croppings.keys)}
    return ExperimentResult(table, {**result, **counts}, metrics)


def _markdown(
    about: str, table: Sequence[str], whole_by: Mapping[str, int], by_part: Sequence[str]
) -> list[str]:
    return [
        "# Croppers on covered faces (Figure 5)",
        "",
        f"{about} The truth is that of the photograph before.",
        "",
        *table,
        "",
        "Means over parts, with 95 % bootstrap intervals over faces. Inside: the share of a part's "
        f"true pixels in its window; whole: at least {FOUND:.0%} of them. Error: from the part's "
        "true centroid to the window's centre. A part that the rough labels lack is cut at the "
        "image's centre by the centroid cropper. The paper shows pictures and gives no numbers.",
        "",
        f"Covered parts that are cut whole: {_listed(whole_by)}.",
        "",
        "Covered parts, each:",
        "",
        *by_part,
        "",
        "![by part](occlusion.png)",
        "",
        "Faces drawn at random; patches of covered parts are framed, and all are cut out of the "
        "photograph as it was before, to show whether the part lies in its window:",
        "",
        "![examples](occlusion_examples.png)",
    ]


def whole_by_which(croppings: Croppings, names: Sequence[str]) -> dict[str, int]:
    """How many covered parts are cut whole: by both of two croppers, by one of them, by neither."""
    covered = croppings.group("covered")
    one, other = (croppings.scores[name].share_inside[covered] >= FOUND for name in names)
    return {
        "both": int((one & other).sum()),
        f"{names[0]} alone": int((one & ~other).sum()),
        f"{names[1]} alone": int((~one & other).sum()),
        "neither": int((~one & ~other).sum()),
    }


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{num} by {escape_markdown(name)}" for name, num in counts.items())


def _means(summary: Summary) -> dict[str, float | None]:
    """Over all parts, by measure; None where there is no such part."""
    row = summary.rows.index(ALL_PARTS)
    return {m: _defined(float(summary.mean[i, row])) for i, m in enumerate(MEASURES)}


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def _cell(summary: Summary, measure: str, row: str, with_interval: bool = True) -> str | None:
    """A mean as it is printed; None where there is none."""
    at = MEASURES.index(measure), summary.rows.index(row)
    if math.isnan(summary.mean[at]):
        return None
    digits = 1 if measure == "error_px" else 3
    mean, low, high = (
        f"{float(v[at]):.{digits}f}" for v in (summary.mean, summary.low, summary.high)
    )
    return f"{mean} ({low} to {high})" if with_interval else mean


def _table(summaries: Summaries, croppings: Croppings) -> list[str]:
    heading = ("parts", "number", "cropper", "inside", "whole", "error, px", "window, px")
    rows = []
    for (group, name), summary in summaries.items():
        cells = [_cell(summary, measure, ALL_PARTS) for measure in MEASURES]
        of_group = croppings.group(group)
        side = _defined(float(croppings.sides_px[name][of_group].mean()))
        number = int(summary.num[summary.rows.index(ALL_PARTS)])
        shown_side = None if side is None else f"{side:.0f}"
        rows.append([GROUPS[group], number, escape_markdown(name), *cells, shown_side])
    return markdown_table(heading, rows)


def _table_by_part(summaries: Summaries, shown: Sequence[str]) -> list[str]:
    names = [escape_markdown(name) for name in shown]
    heading = ["part", "number", "missing", *(f"{m}, {n}" for m in ("inside", "error, px")
                                              for n in names)]  # fmt: skip
    missing = summaries["covered_missing", shown[0]]
    rows = []
    for i, row in enumerate(missing.rows):
        cells = [
            _cell(summaries["covered", name], measure, row, with_interval=False)
            for measure in ("share_inside", "error_px")
            for name in shown
        ]
        number = int(summaries["covered", shown[0]].num[i])
        rows.append([row.replace("_", " "), number, int(missing.num[i]), *cells])
    return markdown_table(heading, rows)


def _write_csv(path: Path, summaries: Summaries) -> None:
    ends = [f"{measure}{end}" for measure in MEASURES for end in ("", "_low", "_high")]
    rows = []
    for (group, name), summary in summaries.items():
        for i, row in enumerate(summary.rows):
            values = [
                _defined(float(tensor[m, i]))
                for m in range(len(MEASURES))
                for tensor in (summary.mean, summary.low, summary.high)
            ]
            rows.append([group, name, row, int(summary.num[i]), *values])
    write_csv(path, ["parts", "cropper", "part", "number", *ends], rows)


def _write_per_face(path: Path, croppings: Croppings) -> None:
    heading = [
        "key",
        "part",
        "covered",
        "missing",
        "cropper",
        "share_inside",
        "error_px",
        "window_px",
    ]
    rows = []
    for name, scores in croppings.scores.items():
        for face, key in enumerate(croppings.keys):
            for i, part in enumerate(croppings.label_set.parts):
                if not croppings.present[face, i]:
                    continue
                at = face, i
                flags = [int(croppings.covered[at]), int(croppings.missing[at])]
                values = (
                    scores.share_inside[at],
                    scores.error_px[at],
                    croppings.sides_px[name][at],
                )
                rows.append([key, part.name, *flags, name, *(round(float(v), 4) for v in values)])
    write_csv(path, heading, rows)


def _draw_chart(path: Path, summaries: Summaries, shown: Sequence[str]) -> None:
    """Draws share inside and error of covered parts, a pair of bars for each part."""
    measures = {
        "share_inside": "covered parts: share of the part inside",
        "error_px": "covered parts: centre's error, px",
    }
    figure, columns = open_figure(*measures.values(), width=10)
    for axes, measure in zip(columns, measures, strict=True):
        m = MEASURES.index(measure)
        means, errors = {}, {}
        for name in shown:
            summary = summaries["covered", name]
            mean = means[name] = summary.mean[m].nan_to_num()
            ends = torch.stack([mean - summary.low[m], summary.high[m] - mean])
            errors[name] = ends.nan_to_num().clamp(min=0).numpy()
        heights = {name: mean.tolist() for name, mean in means.items()}
        groups = [row.replace("_", "\n") for row in summaries["covered", shown[0]].rows]
        draw_grouped_bars(axes, groups, heights, errors=errors)
        axes.tick_params(axis="x", labelsize=8)
    add_legend(figure)
    figure.savefig(path)
