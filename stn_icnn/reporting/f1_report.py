"""The F1 report of a model on a set of images: tables beside the paper's, a chart, overlays.

The caller gives confusion counts by image and system, from which everything here is computed.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from stn_icnn.checks import require
from stn_icnn.labels import LabelSet
from stn_icnn.reporting.charts import Colour, Figure, add_legend, draw_grouped_bars, open_figure
from stn_icnn.reporting.documents import Items, write_markdown
from stn_icnn.reporting.overlay import side_by_side
from stn_icnn.reporting.picture_grid import Drawings
from stn_icnn.reporting.tables import f1_headings, f1_table, f1_values, format_f1, write_csv
from stn_icnn.scoring.examples import ScoredFace
from stn_icnn.scoring.f1 import (
    LEVEL,
    NUM_RESAMPLES,
    bootstrap_interval,
    f1_rows,
    f1_tensors,
    none_if_undefined,
)
from stn_icnn.scoring.published import PAPER_STN_ICNN, PAPER_TABLES, beside_published

SEED: Final = 0
"""The seed of the bootstrap intervals."""
F1_NUMBERS: Final = ("main", "systems", "overall_interval", "interval", "paper")
"""The keys of what `f1_numbers` returns, among those of `f1.json`."""


def write_f1_report(
    folder: Path,
    *,
    systems: Mapping[str, Tensor],
    keys: Sequence[str],
    dataset: str,
    title: str,
    metadata: Mapping[str, Any],
    examples: Mapping[str, Sequence[ScoredFace]],
    label_set: LabelSet,
) -> dict[str, Any]:
    """Writes the F1 report and returns what its `f1.json` holds.

    A picture that cannot be drawn is named in its `failed`, with the reason.

    Args:
        folder: the folder for `f1.json`, `f1.csv`, `f1.md`, `f1.png`, `per_image.csv` and a PNG for
            each example, `best_1.png` and so on, with photograph, truth and prediction; it is made
            where missing.
        systems: confusion counts by system, int64 `[M, C, C]`, rows truth, columns prediction; the
            system that the report is about comes first.
        keys: keys of the M images.
        dataset: name of the data set; `helen` and `celebamask` bring the paper's rows.
        title: heading of the report.
        metadata: what made these numbers, of types that JSON holds.
        examples: the faces to show, by kind, as `pick_examples` names them.
        label_set: the C classes, and the rows of the report.

    Raises:
        ValueError: counts, keys and examples do not belong together; the message says why.
    """
    shown = {
        f"{kind}_{i}.png": example
        for kind, of_kind in examples.items()
        for i, example in enumerate(of_kind, start=1)
    }
    _check(systems, keys, [example.key for example in shown.values()], label_set)
    per_image = {name: f1_tensors(counts, label_set) for name, counts in systems.items()}
    overall = dict(zip(keys, next(iter(per_image.values()))["overall"].tolist(), strict=True))
    report = {
        "title": title,
        "dataset": dataset,
        "num_images": len(keys),
        **f1_numbers(systems, dataset, label_set),
        "per_image_overall": {name: _summary(rows["overall"]) for name, rows in per_image.items()},
        "examples": {
            file: {"key": example.key, "overall": none_if_undefined(overall[example.key])}
            for file, example in shown.items()
        },
        "metadata": dict(metadata),
    }
    encode = partial(json.dumps, indent=2, allow_nan=False)
    encode(report)  # refuses what is no JSON before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    drawings = Drawings()
    drawings.draw(
        "f1.png", lambda: draw_f1_chart(title, report, label_set).savefig(folder / "f1.png")
    )
    for file, face in shown.items():
        drawings.draw(file, partial(_draw_example, folder / file, face, label_set))
    if drawings.failed:
        report["failed"] = drawings.failed
    text = encode(report) + "\n"
    (folder / "f1.json").write_text(text, encoding="utf-8")
    _write_markdown(folder / "f1.md", report, label_set)
    _write_csv(folder / "f1.csv", report, label_set)
    _write_per_image_csv(folder / "per_image.csv", per_image, keys, label_set)
    return report


def _draw_example(file: Path, face: ScoredFace, label_set: LabelSet) -> None:
    picture = side_by_side(face.image, face.truth, face.predicted, label_set)
    Image.fromarray(picture).save(file)


def _check(
    systems: Mapping[str, Tensor],
    keys: Sequence[str],
    example_keys: Sequence[str],
    label_set: LabelSet,
) -> None:
    if not systems or not keys:
        raise ValueError(
            f"a report needs a system and an image, got {len(systems)} and {len(keys)}"
        )
    if len(set(keys)) < len(keys):
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"each image must be scored once, got {twice!r} twice")
    if unknown := sorted(set(example_keys) - set(keys)):
        raise ValueError(f"examples must be among the images scored, got {', '.join(unknown)}")
    expected = [len(keys), label_set.num_classes, label_set.num_classes]
    for name, counts in systems.items():
        shape = list(counts.shape)
        require(shape == expected, f"counts of {name}", f"{expected}, a matrix a key", shape)


def f1_numbers(systems: Mapping[str, Tensor], dataset: str, label_set: LabelSet) -> dict[str, Any]:
    """Computes F1 of the summed counts and its interval, and adds the paper's rows.

    Returns:
        `main`, the first system's name; `systems`, F1 by system and row; `overall_interval` by
        system, None where it is undefined; `interval`, how these were drawn; `paper`, the rows and
        their source, or None.
    """
    rows = {name: f1_rows(counts.sum(dim=0), label_set) for name, counts in systems.items()}
    intervals = {
        name: None
        if rows[name]["overall"] is None
        else list(bootstrap_interval(counts, label_set, seed=SEED))
        for name, counts in systems.items()
    }
    paper = PAPER_TABLES.get(dataset)
    return {
        "main": next(iter(systems)),
        "systems": rows,
        "overall_interval": intervals,
        "interval": {"level": LEVEL, "num_resamples": NUM_RESAMPLES, "seed": SEED},
        "paper": {"source": paper.source, "systems": paper.rows()} if paper else None,
    }


def _summary(overall: Tensor) -> dict[str, float | int | None]:
    """Summarises the images' own overall F1, float64 `[M]`, NaN where undefined."""
    defined = overall[~overall.isnan()]
    summary: dict[str, float | int | None] = {"num_undefined": len(overall) - len(defined)}
    for name, q in (("min", 0.0), ("p10", 0.1), ("median", 0.5), ("p90", 0.9), ("max", 1.0)):
        summary[name] = float(torch.quantile(defined, q)) if len(defined) else None
    summary["mean"] = float(defined.mean()) if len(defined) else None
    return summary


def _write_markdown(path: Path, report: Mapping[str, Any], label_set: LabelSet) -> None:
    paper, measured = report["paper"], report["systems"]
    lines = beside_published(measured, report["dataset"])
    about = [
        f"{report['num_images']} images of {report['dataset']}.",
        "Pixels are counted at the images' own size and summed over all images before F1.",
        "`mean` is the mean F1 of the inner classes.",
    ]
    if paper:
        about.append(
            f"The paper's rows are from its {paper['source']}; *: before end-to-end training."
        )
    overall = []
    for name, interval in report["overall_interval"].items():
        ends = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        overall.append(f"{name}: {format_f1(measured[name]['overall']) or '-'}{ends}")
    examples = [
        f"`{file}`, {example['key']}: {format_f1(example['overall']) or '-'}"
        for file, example in report["examples"].items()
    ]
    write_markdown(
        path,
        report["title"],
        f1_table(["F1"], [([line.system], line.rows) for line in lines], label_set),
        " ".join(about),
        f"Overall F1, {LEVEL:.0%} bootstrap interval over images:",
        Items(overall),
        "Images with their own overall F1, which files of these names show:" if examples else "",
        Items(examples),
        Items([f"{name}: {value}" for name, value in report["metadata"].items()]),
    )


def _write_csv(path: Path, report: Mapping[str, Any], label_set: LabelSet) -> None:
    intervals = report["overall_interval"]
    heading = ["system", "source", *f1_headings(label_set), "overall_low", "overall_high"]
    rows = [
        [name, source, *f1_values(rows, label_set), *(intervals.get(name) or [None, None])]
        for name, source, rows in beside_published(report["systems"], report["dataset"])
    ]
    write_csv(path, heading, rows)


def _write_per_image_csv(
    path: Path,
    per_image: Mapping[str, Mapping[str, Tensor]],
    keys: Sequence[str],
    label_set: LabelSet,
) -> None:
    rows: list[list[object]] = []
    for name, by_row in per_image.items():
        table = torch.stack(list(by_row.values()), dim=1).tolist()
        rows += [
            [key, name, *map(none_if_undefined, f1)] for key, f1 in zip(keys, table, strict=True)
        ]
    write_csv(path, ["key", "system", *f1_headings(label_set)], rows)


def draw_f1_chart(title: str, numbers: Mapping[str, Any], label_set: LabelSet) -> Figure:
    """Draws F1 of the main system and of the paper's STN-iCNN, a pair of bars for each row.

    Args:
        title: the chart's heading.
        numbers: what `f1_numbers` returned.
        label_set: the label set whose rows are drawn.
    """
    headings = f1_headings(label_set)
    systems = {numbers["main"]: numbers["systems"][numbers["main"]]}
    if numbers["paper"]:
        systems[PAPER_STN_ICNN] = numbers["paper"]["systems"][PAPER_STN_ICNN]
    shown = [row for row in headings if any(rows[row] is not None for rows in systems.values())]
    figure, (axes,) = open_figure(title, width=9)
    draw_grouped_bars(
        axes,
        [headings[row] for row in shown],
        {name: [rows[row] for row in shown] for name, rows in systems.items()},
        colours={PAPER_STN_ICNN: Colour.COMPARED},
        label_format="%.3f",
    )
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("F1")
    add_legend(figure)
    return figure
