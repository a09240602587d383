"""Tables as Markdown, CSV and plain text, and the columns of those that hold F1."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from stn_icnn.labels import F1_ROWS
from stn_icnn.scoring.f1 import F1Rows

HEADINGS: Final = {
    **{row: row for row in F1_ROWS},
    "inner_mouth": "in-mouth",
    "upper_lip": "upper-lip",
    "lower_lip": "lower-lip",
    "mean": "mean",
}
"""Columns of the F1 tables, in the paper's words and order, and the mean over the inner classes."""


def f1_values(rows: F1Rows) -> list[float | None]:
    """Returns the F1 of every column of `HEADINGS`, in their order."""
    return [rows[row] for row in HEADINGS]


def format_f1(value: float | None) -> str | None:
    """Returns F1 as it is printed, with three decimals; None where it is undefined."""
    return None if value is None else f"{value:.3f}"


def escape_markdown(text: str) -> str:
    """Returns a name such as `STN-iCNN*` with its asterisk escaped, so that it is printed."""
    return text.replace("*", r"\*")


def markdown_table(heading: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """Returns the lines of a Markdown table; a cell that is None is printed as `-`."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |"

    return [line(heading), "|---" * len(heading) + "|", *map(line, rows)]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes lines, such as those of a Markdown report, as a UTF-8 file."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_csv(path: Path, heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table as a CSV file; a cell that is None becomes an empty field."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([heading, *rows])


def text_table(systems: Mapping[str, Mapping[str, float | None]]) -> str:
    """Returns F1 as a plain text table for a job's log.

    Args:
        systems: by system, the rows of `f1_rows`; a row that is missing or None is printed `-`.

    Returns:
        A line of headings and one for each system, without a newline at the end.
    """
    lines = [("", list(HEADINGS.values()))]
    lines += [
        (name, [format_f1(rows.get(row)) or "-" for row in HEADINGS])
        for name, rows in systems.items()
    ]
    name_width = max(len(name) for name, _ in lines)
    widths = [max(len(heading), len("0.000")) for heading in HEADINGS.values()]
    return "\n".join(
        " ".join([name.ljust(name_width), *map(str.rjust, cells, widths)]) for name, cells in lines
    )
