"""The F1 report of a model on a set of images: tables beside the paper's, a chart, overlays.

The caller gives confusion counts per image and system; everything here is computed from these.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from stn_icnn.labels import LabelSet
from stn_icnn.reporting.charts import Colour, add_legend, draw_grouped_bars, open_figure
from stn_icnn.reporting.overlay import side_by_side
from stn_icnn.reporting.published import PAPER_STN_ICNN, PAPER_TABLES, beside_published
from stn_icnn.reporting.tables import (
    escape_markdown,
    f1_headings,
    f1_values,
    format_f1,
    markdown_table,
    write_csv,
    write_lines,
)
from stn_icnn.scoring.examples import ScoredFace
from stn_icnn.scoring.f1 import bootstrap_interval, f1_rows, f1_tensors

LEVEL: Final = 0.95
NUM_RESAMPLES: Final = 1000
SEED: Final = 0


def write_report(
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

    Args:
        folder: made where missing; gets `f1.json`, `f1.csv`, `f1.md`, `f1.png`, `per_image.csv`
            and a PNG an example, `best_1.png` and so on: photograph, truth, prediction.
        systems: by name, int64 `[M, C, C]`, rows truth, columns prediction; the main one first.
        keys: of the M images.
        dataset: `helen` and `celebamask` bring the paper's rows; others have none.
        title: heading of the report.
        metadata: what made these numbers, of types that JSON holds.
        examples: by kind, as `pick_examples` names them.
        label_set: the C classes, and the rows of the report.
    """
    example_keys = [example.key for of_kind in examples.values() for example in of_kind]
    _check(systems, keys, example_keys, label_set)
    per_image = {name: f1_tensors(counts, label_set) for name, counts in systems.items()}
    overall = dict(zip(keys, next(iter(per_image.values()))["overall"].tolist(), strict=True))
    shown = {
        f"{kind}_{i}.png": example
        for kind, of_kind in examples.items()
        for i, example in enumerate(of_kind, start=1)
    }
    report = {
        "title": title,
        "dataset": dataset,
        "num_images": len(keys),
        **_numbers(systems, dataset, label_set),
        "per_image_overall": {name: _summary(rows["overall"]) for name, rows in per_image.items()},
        "examples": {
            file: {"key": example.key, "overall": _defined(overall[example.key])}
            for file, example in shown.items()
        },
        "metadata": dict(metadata),
    }
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "f1.json").write_text(text, encoding="utf-8")
    headings = f1_headings(label_set)
    write_lines(folder / "f1.md", _markdown(report, label_set))
    heading = ["system", "source", *headings, "overall_low", "overall_high"]
    write_csv(folder / "f1.csv", heading, _csv_rows(report, label_set))
    heading = ["key", "system", *headings]
    write_csv(folder / "per_image.csv", heading, _per_image_rows(per_image, keys))
    _draw_chart(folder / "f1.png", report, headings)
    for file, (_, image, truth, predicted) in shown.items():
        picture = side_by_side(image, truth, predicted, label_set)
        Image.fromarray(picture).save(folder / file)
    return report


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
    expected = (len(keys), label_set.num_classes, label_set.num_classes)
    for name, counts in systems.items():
        if tuple(counts.shape) != expected:
            raise ValueError(
                f"counts of {name} must be {list(expected)}, a matrix a key, "
                f"got {list(counts.shape)}"
            )


def _defined(value: float) -> float | None:
    return value if value == value else None


def _numbers(systems: Mapping[str, Tensor], dataset: str, label_set: LabelSet) -> dict[str, Any]:
    """F1 of the summed counts, its interval, and the paper's rows for the data set."""
    rows = {name: f1_rows(counts.sum(dim=0), label_set) for name, counts in systems.items()}
    intervals = {
        name: None
        if rows[name]["overall"] is None
        else list(bootstrap_interval(counts, label_set, "overall", NUM_RESAMPLES, SEED, LEVEL))
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
    """Spread of the images' own overall F1, float64 `[M]`, NaN where undefined."""
    defined = overall[~overall.isnan()]
    summary: dict[str, float | int | None] = {"num_undefined": len(overall) - len(defined)}
    for name, q in (("min", 0.0), ("p10", 0.1), ("median", 0.5), ("p90", 0.9), ("max", 1.0)):
        summary[name] = float(torch.quantile(defined, q)) if len(defined) else None
    summary["mean"] = float(defined.mean()) if len(defined) else None
    return summary


def _markdown(report: dict[str, Any], label_set: LabelSet) -> list[str]:
    paper, measured = report["paper"], report["systems"]
    systems = {**measured, **(paper["systems"] if paper else {})}
    lines = [f"# {report['title']}", ""]
    lines += markdown_table(
        ["F1", *f1_headings(label_set).values()],
        [
            [escape_markdown(name), *map(format_f1, f1_values(rows, label_set))]
            for name, rows in systems.items()
        ],
    )
    lines += ["", f"{report['num_images']} images of {report['dataset']}."]
    lines.append("Pixels are counted at the images' own size and summed over all images before F1.")
    lines.append("`mean` is the mean F1 of the inner classes.")
    if paper:
        lines.append(
            f"The paper's rows are from its {paper['source']}; \\*: before end-to-end training."
        )
    lines += ["", f"Overall F1, {LEVEL:.0%} bootstrap interval over images:", ""]
    for name, interval in report["overall_interval"].items():
        ends = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        lines.append(f"- {name}: {format_f1(measured[name]['overall']) or '-'}{ends}")
    if report["examples"]:
        lines += ["", "Photograph, truth and prediction, with the image's own overall F1:"]
    for file, example in report["examples"].items():
        overall = format_f1(example["overall"]) or "-"
        lines += ["", f"{example['key']}: {overall}", "", f"![{file}]({file})"]
    if report["metadata"]:
        lines.append("")
        lines += [f"- {name}: {value}" for name, value in report["metadata"].items()]
    return lines


def _csv_rows(report: dict[str, Any], label_set: LabelSet) -> list[list[object]]:
    """Our systems, with their intervals, and the paper's."""
    intervals = report["overall_interval"]
    return [
        [name, source, *f1_values(rows, label_set), *(intervals.get(name) or [None, None])]
        for name, source, rows in beside_published(report["systems"], report["dataset"])
    ]


def _per_image_rows(
    per_image: Mapping[str, Mapping[str, Tensor]], keys: Sequence[str]
) -> list[list[object]]:
    lines: list[list[object]] = []
    for name, rows in per_image.items():
        table = torch.stack(list(rows.values()), dim=1).tolist()
        lines += [[key, name, *map(_defined, f1)] for key, f1 in zip(keys, table, strict=True)]
    return lines


def _draw_chart(path: Path, report: dict[str, Any], headings: Mapping[str, str]) -> None:
    """Draws F1 of the main system and of the paper's STN-iCNN, a pair of bars for each row."""
    systems = {report["main"]: report["systems"][report["main"]]}
    if report["paper"]:
        systems[PAPER_STN_ICNN] = report["paper"]["systems"][PAPER_STN_ICNN]
    shown = [row for row in headings if any(rows[row] is not None for rows in systems.values())]
    figure, (axes,) = open_figure(report["title"], width=9)
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
    figure.savefig(path)
