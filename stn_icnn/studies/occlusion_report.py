"""The report of Figure 5: how croppers cut parts that are covered, and parts that are not.

The paper shows pictures and gives no numbers.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image

from stn_icnn.data.shards import ShardedFaces
from stn_icnn.reporting.charts import draw_grouped_bars, open_figure, save_with_legend
from stn_icnn.reporting.documents import Block, PictureFile, write_document
from stn_icnn.reporting.tables import Table, write_csv
from stn_icnn.scoring.confusion import batches_with_progress
from stn_icnn.scoring.window_scores import (
    ALL_PARTS,
    FOUND,
    MEASURES,
    WindowSummary,
    summarise_windows,
)
from stn_icnn.studies.cropper_comparison import CropperComparison, CroppingScores
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.occlusion_examples import examples_picture

GROUPS: Final = {
    "covered": "covered",
    "covered_missing": "covered, and not in the rough labels",
    "not_covered": "not covered",
}
"""The groups of parts that are reported, and what they are called in tables."""

Summaries = Mapping[tuple[str, str], WindowSummary]
"""The summaries by group and cropper."""


def report_occlusion(
    folder: Path,
    comparison: CropperComparison,
    faces: ShardedFaces,
    subject: str,
    num_examples: int,
    about: Sequence[Block] = (),
) -> ExperimentResult:
    """Compares the croppers on faces and writes `occlusion.md`, `.csv`, `.png`,
    `occlusion_per_face.csv`, `occlusion_examples.png` and `report.html`.

    Args:
        folder: an existing folder for the files.
        comparison: the two croppers that charts and the table by part compare.
        faces: the faces whose parts are covered, with truth.
        subject: what was measured, in a sentence or two.
        num_examples: number of faces in the picture.
        about: the end of the report.
    """
    seed, croppers = comparison.seed, comparison.croppers
    scores = CroppingScores.joined([comparison.score(b) for b in batches_with_progress(faces)])
    chosen = np.random.default_rng(seed).permutation(len(faces))[:num_examples]
    examples = [comparison.example(faces, index) for index in sorted(chosen.tolist())]
    picture = examples_picture(examples, croppers)
    Image.fromarray(picture).save(folder / "occlusion_examples.png")
    summaries = {
        (group, name): summarise_windows(of_name, parts, scores.label_set, seed=seed)
        for group, parts in scores.groups.items()
        for name, of_name in scores.scores.items()
    }
    table, whole_by = _table(summaries, scores), count_whole(scores, croppers)
    _draw_chart(folder / "occlusion.png", summaries, croppers)
    _write_document(folder, subject, table, whole_by, summaries, croppers, about)
    _write_csv(folder / "occlusion.csv", summaries)
    _write_per_face_csv(folder / "occlusion_per_face.csv", scores)
    means = {
        group: {
            name: {measure: summaries[group, name].estimate(measure).mean for measure in MEASURES}
            for name in scores.scores
        }
        for group in GROUPS
    }
    metrics = {
        f"occlusion/{group}_{measure}_{re.sub('[^A-Za-z]', '', name).lower()}": value
        for group in GROUPS
        for name in croppers
        for measure, value in means[group][name].items()
        if value is not None
    }
    counts = {"covered_whole_by": whole_by, "num_faces": len(scores.keys)}
    inside = ", ".join(
        f"{name} {_cell(summaries['covered', name], 'share_inside', with_interval=False) or '-'}"
        for name in croppers
    )
    return ExperimentResult(
        table.markdown,
        {**means, **counts},
        metrics,
        headline=f"share of a covered part's pixels in its window: {inside}",
    )


def count_whole(scores: CroppingScores, croppers: Sequence[str]) -> dict[str, int]:
    """Counts the covered parts that are cut whole by both of two croppers, by one, by neither."""
    covered = scores.groups["covered"]
    one, other = (scores.scores[name].share_inside[covered] >= FOUND for name in croppers)
    return {
        "both": int((one & other).sum()),
        f"{croppers[0]} alone": int((one & ~other).sum()),
        f"{croppers[1]} alone": int((~one & other).sum()),
        "neither": int((~one & ~other).sum()),
    }


def _write_document(
    folder: Path,
    subject: str,
    table: Table,
    whole_by: Mapping[str, int],
    summaries: Summaries,
    croppers: Sequence[str],
    about: Sequence[Block],
) -> None:
    counts = ", ".join(f"{num} by {name}" for name, num in whole_by.items())
    write_document(
        folder,
        "occlusion",
        "Croppers on covered faces (Figure 5)",
        f"{subject} The truth is that of the photograph before.",
        table,
        "Means over parts, with 95 % bootstrap intervals over faces. Inside: the share of a part's "
        f"true pixels in its window; whole: at least {FOUND:.0%} of them. Error: from the part's "
        "true centroid to the window's centre. A part that the rough labels lack is cut at the "
        "image's centre by the centroid cropper. The paper shows pictures and gives no numbers.",
        f"Covered parts that are cut whole: {counts}.",
        "Covered parts, each:",
        _table_by_part(summaries, croppers),
        PictureFile("occlusion.png", "by part"),
        "Faces drawn at random; patches of covered parts are framed, and all are cut out of the "
        "photograph as it was before, to show whether the part lies in its window:",
        PictureFile("occlusion_examples.png", "examples"),
        *about,
    )


def _cell(
    summary: WindowSummary, measure: str, row: str = ALL_PARTS, with_interval: bool = True
) -> str | None:
    """Returns a mean as it is printed; None where there is no such part."""
    estimate = summary.estimate(measure, row)
    if estimate.mean is None:
        return None
    digits = 1 if measure == "error_px" else 3
    mean, low, high = (f"{value:.{digits}f}" for value in estimate)
    return f"{mean} ({low} to {high})" if with_interval else mean


def _table(summaries: Summaries, scores: CroppingScores) -> Table:
    heading = ("parts", "number", "cropper", "inside", "whole", "error, px", "window, px")
    rows = []
    for (group, name), summary in summaries.items():
        cells = [_cell(summary, measure) for measure in MEASURES]
        num = summary.num_parts()
        side_px = f"{scores.sides_px[name][scores.groups[group]].mean():.0f}" if num else None
        rows.append([GROUPS[group], num, name, *cells, side_px])
    return Table(heading, rows)


def _table_by_part(summaries: Summaries, croppers: Sequence[str]) -> Table:
    measures = {"share_inside": "inside", "error_px": "error, px"}
    headings = [f"{heading}, {name}" for heading in measures.values() for name in croppers]
    covered = [summaries["covered", name] for name in croppers]
    missing = summaries["covered_missing", croppers[0]]
    rows = []
    for row in missing.rows:
        means = [_cell(each, m, row, with_interval=False) for m in measures for each in covered]
        nums = covered[0].num_parts(row), missing.num_parts(row)
        rows.append([row.replace("_", " "), *nums, *means])
    return Table(["part", "number", "missing", *headings], rows)


def _write_csv(path: Path, summaries: Summaries) -> None:
    columns = [f"{measure}{end}" for measure in MEASURES for end in ("", "_low", "_high")]
    rows = []
    for (group, name), summary in summaries.items():
        for row in summary.rows:
            values = [value for measure in MEASURES for value in summary.estimate(measure, row)]
            rows.append([group, name, row, summary.num_parts(row), *values])
    write_csv(path, ["parts", "cropper", "part", "number", *columns], rows)


def _write_per_face_csv(path: Path, scores: CroppingScores) -> None:
    measured = ("share_inside", "error_px", "window_px")
    parts = [part.name for part in scores.label_set.parts]
    rows = []
    for name, of_name in scores.scores.items():
        tensors = (of_name.share_inside, of_name.error_px, scores.sides_px[name])
        for face, part in scores.present.nonzero().tolist():
            flags = [int(flag[face, part]) for flag in (scores.covered, scores.missing)]
            values = [round(float(tensor[face, part]), 4) for tensor in tensors]
            rows.append([scores.keys[face], parts[part], *flags, name, *values])
    write_csv(path, ["key", "part", "covered", "missing", "cropper", *measured], rows)


def _draw_chart(path: Path, summaries: Summaries, croppers: Sequence[str]) -> None:
    """Draws share inside and error of covered parts, a pair of bars for each part."""
    titles = {
        "share_inside": "covered parts: share of the part inside",
        "error_px": "covered parts: centre's error, px",
    }
    covered = {name: summaries["covered", name] for name in croppers}
    groups = [row.replace("_", "\n") for row in covered[croppers[0]].rows]
    figure, columns = open_figure(*titles.values(), width=10)
    for axes, m in zip(columns, map(MEASURES.index, titles), strict=True):
        heights = {name: each.mean[m].nan_to_num().tolist() for name, each in covered.items()}
        errors = {
            name: torch.stack([each.mean[m] - each.low[m], each.high[m] - each.mean[m]])
            .nan_to_num().clamp(min=0).numpy()
            for name, each in covered.items()
        }  # fmt: skip
        draw_grouped_bars(axes, groups, heights, errors=errors)
        axes.tick_params(axis="x", labelsize=8)
    save_with_legend(figure, path)
