"""The F1 report of a model on a set of images: tables beside the paper's, a chart, overlays.

The caller gives confusion counts per image and system; everything here is computed from these.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from stn_icnn.labels import F1_ROWS, MODEL_CLASSES, NUM_CLASSES
from stn_icnn.reporting.overlay import side_by_side
from stn_icnn.scoring.f1 import bootstrap_interval, f1_rows, f1_tensors

Rows = Mapping[str, float | None]

HEADINGS: Final = {
    **{row: row for row in F1_ROWS},
    "inner_mouth": "in-mouth",
    "upper_lip": "upper-lip",
    "lower_lip": "lower-lip",
    "mean": "mean",
}
"""Columns of the tables, in the paper's words and order, and the mean over the inner classes."""

LEVEL: Final = 0.95
NUM_RESAMPLES: Final = 1000
SEED: Final = 0


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        source: which one.
        systems: F1 by system, in the order of `F1_ROWS`.
    """

    source: str
    systems: dict[str, tuple[float | None, ...]]

    def rows(self) -> dict[str, Rows]:
        """F1 by system and row; `mean` is not in the paper."""
        return {
            f"{system} (paper)": {**dict(zip(F1_ROWS, values, strict=True)), "mean": None}
            for system, values in self.systems.items()
        }


PAPER: Final = {
    "helen": PaperTable(
        "Table 2",
        {
            "iCNN baseline": (0.778, 0.863, 0.920, 0.777, 0.824, 0.808, 0.889, None, 0.845),
            "iCNN": (0.863, 0.790, 0.936, 0.812, 0.772, 0.830, 0.908, None, 0.865),
            "STN-iCNN*": (0.891, 0.845, 0.956, 0.853, 0.792, 0.834, 0.920, None, 0.893),
            "STN-iCNN": (0.895, 0.848, 0.963, 0.856, 0.824, 0.866, 0.928, None, 0.910),
        },
    ),
    "celebamask": PaperTable(
        "Table 3",
        {
            "iCNN": (0.883, 0.848, 0.910, 0.896, 0.712, 0.763, 0.849, None, 0.879),
            "STN-iCNN*": (0.866, 0.834, 0.937, 0.906, 0.878, 0.893, 0.948, None, 0.915),
            "STN-iCNN": (0.900, 0.851, 0.943, 0.917, 0.877, 0.893, 0.948, None, 0.924),
        },
    ),
}
"""Published F1 by data set; `*`: before end-to-end training."""
PAPER_MAIN: Final = "STN-iCNN (paper)"


class Example(NamedTuple):
    """An image to show in the report.

    Attributes:
        key: the image's, one of the report's keys.
        image: uint8 `[H, W, 3]`, RGB.
        truth: uint8 `[H, W]`, canonical class ids.
        predicted: uint8 `[H, W]`, canonical class ids.
    """

    key: str
    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.uint8]
    predicted: npt.NDArray[np.uint8]


def pick_examples(counts: Tensor, keys: Sequence[str], num: int = 4) -> dict[str, list[int]]:
    """Choose the images to show by their own overall F1.

    Args:
        counts: int64 `[M, 11, 11]` of the main system, rows truth, columns prediction.
        keys: of the M images; they settle ties.
        num: images a kind; fewer where there are fewer than `num` images.

    Returns:
        Indices of the `best` images, best first, the `median` ones, and the `worst`, worst first.
        Images whose overall F1 is undefined are in none.
    """
    overall = f1_tensors(counts)["overall"].tolist()
    # NaN, undefined, is the one number unequal to itself.
    defined = [i for i, f1 in enumerate(overall) if f1 == f1]
    ranked = sorted(defined, key=lambda i: (-overall[i], keys[i]))
    start = max(0, (len(ranked) - num) // 2)
    return {
        "best": ranked[:num],
        "median": ranked[start : start + num],
        "worst": ranked[::-1][:num],
    }


def write_report(
    folder: Path,
    *,
    systems: Mapping[str, Tensor],
    keys: Sequence[str],
    dataset: str,
    title: str,
    metadata: Mapping[str, Any],
    examples: Mapping[str, Sequence[Example]],
    classes_of_model: Sequence[int] = MODEL_CLASSES,
) -> dict[str, Any]:
    """Write the F1 report and return what its `f1.json` holds.

    Args:
        folder: made where missing; gets `f1.json`, `f1.csv`, `f1.md`, `f1.png`, `per_image.csv`
            and a PNG an example, `best_1.png` and so on: photograph, truth, prediction.
        systems: by name, int64 `[M, 11, 11]`, rows truth, columns prediction; the main one first.
        keys: of the M images.
        dataset: `helen` and `celebamask` bring the paper's rows; others have none.
        title: heading of the report.
        metadata: what made these numbers, of types that JSON holds.
        examples: by kind, as `pick_examples` names them.
        classes_of_model: canonical ids that the systems can predict.
    """
    _check(systems, keys, [example.key for of_kind in examples.values() for example in of_kind])
    per_image = {name: f1_tensors(counts, classes_of_model) for name, counts in systems.items()}
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
        **_numbers(systems, dataset, classes_of_model),
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
    (folder / "f1.md").write_text(_markdown(report), encoding="utf-8")
    _write_csv(folder / "f1.csv", _csv_lines(report))
    _write_csv(folder / "per_image.csv", _per_image_lines(per_image, keys))
    _chart(report).savefig(folder / "f1.png", dpi=150)
    for file, (_, image, truth, predicted) in shown.items():
        picture = side_by_side(image, truth, predicted, classes=classes_of_model)
        Image.fromarray(picture).save(folder / file)
    return report


def table_text(systems_rows: Mapping[str, Rows]) -> str:
    """A plain text table for a job's log.

    Args:
        systems_rows: by system, the rows of `f1_rows`; None is printed `-`.

    Returns:
        A line of headings and one a system, without a newline at the end.
    """
    lines = [("", list(HEADINGS.values()))]
    lines += [
        (name, [_cell(rows.get(row)) for row in HEADINGS]) for name, rows in systems_rows.items()
    ]
    name_width = max(len(name) for name, _ in lines)
    widths = [max(len(heading), len("0.000")) for heading in HEADINGS.values()]
    return "\n".join(
        " ".join([name.ljust(name_width), *map(str.rjust, cells, widths)]) for name, cells in lines
    )


def _check(systems: Mapping[str, Tensor], keys: Sequence[str], example_keys: Sequence[str]) -> None:
    if not systems or not keys:
        raise ValueError(
            f"a report needs a system and an image, got {len(systems)} and {len(keys)}"
        )
    if len(set(keys)) < len(keys):
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"each image must be scored once, got {twice!r} twice")
    if unknown := sorted(set(example_keys) - set(keys)):
        raise ValueError(f"examples must be among the images scored, got {', '.join(unknown)}")
    expected = (len(keys), NUM_CLASSES, NUM_CLASSES)
    for name, counts in systems.items():
        if tuple(counts.shape) != expected:
            raise ValueError(
                f"counts of {name} must be {list(expected)}, a matrix a key, "
                f"got {list(counts.shape)}"
            )


def _defined(value: float) -> float | None:
    return value if value == value else None


def _numbers(
    systems: Mapping[str, Tensor], dataset: str, classes_of_model: Sequence[int]
) -> dict[str, Any]:
    """F1 of the summed counts, its interval, and the paper's rows for the data set."""
    rows = {name: f1_rows(counts.sum(dim=0), classes_of_model) for name, counts in systems.items()}
    intervals = {
        name: None
        if rows[name]["overall"] is None
        else list(bootstrap_interval(counts, "overall", NUM_RESAMPLES, SEED, LEVEL))
        for name, counts in systems.items()
    }
    paper = PAPER.get(dataset)
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


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _markdown(report: dict[str, Any]) -> str:
    paper = report["paper"]
    systems = {**report["systems"], **(paper["systems"] if paper else {})}
    lines = [f"# {report['title']}", ""]
    lines.append("| F1 | " + " | ".join(HEADINGS.values()) + " |")
    lines.append("|---" * (len(HEADINGS) + 1) + "|")
    for name, rows in systems.items():
        cells = " | ".join([name.replace("*", r"\*"), *(_cell(rows[row]) for row in HEADINGS)])
        lines.append(f"| {cells} |")
    lines += ["", f"{report['num_images']} images of {report['dataset']}."]
    lines.append("Pixels are counted at the images' own size and summed over all images before F1.")
    lines.append("`mean` is the mean F1 of the eight inner classes.")
    if paper:
        lines.append(
            f"The paper's rows are from its {paper['source']}; \\*: before end-to-end training."
        )
    lines += ["", f"Overall F1, {LEVEL:.0%} bootstrap interval over images:", ""]
    for name, interval in report["overall_interval"].items():
        ends = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        lines.append(f"- {name}: {_cell(report['systems'][name]['overall'])}{ends}")
    if report["examples"]:
        lines += ["", "Photograph, truth and prediction, with the image's own overall F1:"]
    for file, example in report["examples"].items():
        lines += ["", f"{example['key']}: {_cell(example['overall'])}", "", f"![{file}]({file})"]
    if report["metadata"]:
        lines.append("")
        lines += [f"- {name}: {value}" for name, value in report["metadata"].items()]
    return "\n".join(lines) + "\n"


def _csv_lines(report: dict[str, Any]) -> list[list[str]]:
    """Our systems and the paper's; an undefined number is an empty field."""
    lines = [["system", "source", *HEADINGS, "overall_low", "overall_high"]]
    for name, rows in report["systems"].items():
        ends = report["overall_interval"][name] or [None, None]
        lines.append([name, "measured", *_fields(rows), *(_field(end) for end in ends)])
    if report["paper"]:
        for name, rows in report["paper"]["systems"].items():
            lines.append([name, report["paper"]["source"], *_fields(rows), "", ""])
    return lines


def _per_image_lines(
    per_image: Mapping[str, Mapping[str, Tensor]], keys: Sequence[str]
) -> list[list[str]]:
    lines = [["key", "system", *HEADINGS]]
    for name, rows in per_image.items():
        table = torch.stack([rows[row] for row in HEADINGS], dim=1).tolist()
        for key, values in zip(keys, table, strict=True):
            lines.append([key, name, *(_field(_defined(value)) for value in values)])
    return lines


def _fields(rows: Rows) -> list[str]:
    return [_field(rows[row]) for row in HEADINGS]


def _field(value: float | None) -> str:
    return "" if value is None else repr(value)


def _write_csv(path: Path, lines: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


def _chart(report: dict[str, Any]) -> Figure:
    """Bars of the main system and of the paper's STN-iCNN, a pair a row of the table."""
    bars = {report["main"]: report["systems"][report["main"]]}
    if report["paper"]:
        bars[PAPER_MAIN] = report["paper"]["systems"][PAPER_MAIN]
    shown = [row for row in HEADINGS if any(rows[row] is not None for rows in bars.values())]
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(bars)
    for i, (name, rows) in enumerate(bars.items()):
        places = [x + i * width for x, row in enumerate(shown) if rows[row] is not None]
        heights = [rows[row] for row in shown if rows[row] is not None]
        drawn = axes.bar(places, heights, width, label=name, color=("#1f5fa8", "#b8bec6")[i])
        axes.bar_label(drawn, fmt="%.3f", fontsize=7, padding=2)
    axes.set_xticks(
        [x + width * (len(bars) - 1) / 2 for x in range(len(shown))], [HEADINGS[r] for r in shown]
    )
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("F1")
    axes.set_title(report["title"], loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    figure.legend(loc="outside lower left", ncols=len(bars), frameon=False)
    return figure
