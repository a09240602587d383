"""Tables of reports: in Markdown, CSV and plain text, and the columns of those that hold F1."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stn_icnn.labels import LabelSet
from stn_icnn.scoring.f1 import F1Rows, weakest_row

MOST_COLUMNS: Final = 12
"""The most columns of F1 that are printed beside each other."""

F1Line = tuple[Sequence[object], F1Rows]
"""A line of a table of F1: the cells before those of F1, and its F1 by row."""


def f1_headings(label_set: LabelSet) -> dict[str, str]:
    """Returns the headings of the F1 tables' columns by row: the report groups and the means."""
    return {row: row.replace("_", " ") for row in (*label_set.f1_rows, *label_set.mean_rows)}


def f1_values(rows: F1Rows, label_set: LabelSet) -> list[float | None]:
    """Returns the F1 of every column of `f1_headings`, in their order."""
    return [rows.get(row) for row in f1_headings(label_set)]


def format_f1(value: float | None) -> str | None:
    """Returns F1 as it is printed, with three decimals; None where it is undefined."""
    return None if value is None else f"{value:.3f}"


def format_minutes(value: float | None) -> str | None:
    """Returns minutes as they are printed, with one decimal; None where they are not known."""
    return None if value is None else f"{value:.1f}"


def f1_headline(system: str, f1: F1Rows, split: str, dataset: str, label_set: LabelSet) -> str:
    """Returns a line with a system's F1 on a split, and the part that it labels worst."""
    return f1_in_words(f"{system} on the {split} split of {dataset}", f1, label_set)


def f1_in_words(name: str, f1: F1Rows, label_set: LabelSet) -> str:
    """Returns a line with the F1 of what has a name, and the part that it labels worst."""
    row = weakest_row(f1, label_set)
    if row is None:
        return f"{name}: it has no part of a face"
    weakest = f"{f1_headings(label_set)[row]} {format_f1(f1[row])}"
    return f"{name}: F1 {format_f1(f1['overall'])}, weakest {weakest}"


@dataclass(frozen=True)
class Table:
    """A table of a report. A cell that is None is printed as `-`."""

    heading: Sequence[object]
    rows: Sequence[Sequence[object]]

    @property
    def cells(self) -> list[list[str]]:
        """The texts of the rows' cells."""
        return [["-" if cell is None else str(cell) for cell in row] for row in self.rows]

    @property
    def markdown(self) -> list[str]:
        """The table's lines in Markdown."""
        lines = [list(map(str, self.heading)), *self.cells]
        texts = [f"| {' | '.join(map(escape_markdown, cells))} |" for cells in lines]
        return [texts[0], "|---" * len(self.heading) + "|", *texts[1:]]

    @property
    def text(self) -> str:
        """The table as plain text: the first column to the left, the others to the right."""
        lines = [list(map(str, self.heading)), *self.cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
            for line in lines
        )


def escape_markdown(text: str) -> str:
    """Returns a text with its asterisks escaped, as in `STN-iCNN*`, so that they are printed."""
    return text.replace("*", r"\*")


def f1_table(heading: Sequence[str], lines: Iterable[F1Line], label_set: LabelSet) -> Table:
    """Returns a table of F1.

    Args:
        heading: the headings of the columns before those of F1.
        lines: the lines of the table.
        label_set: the label set whose report groups and means are the columns of F1.
    """
    rows = [[*cells, *map(format_f1, f1_values(rows, label_set))] for cells, rows in lines]
    return Table([*heading, *f1_headings(label_set).values()], rows)


def write_csv(path: Path, heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table as a CSV file; a cell that is None becomes an empty field."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([heading, *rows])


def write_f1_csv(
    path: Path, heading: Sequence[str], lines: Iterable[F1Line], label_set: LabelSet
) -> None:
    """Writes a table of F1 as a CSV file; its arguments are those of `f1_table`."""
    rows = [[*cells, *f1_values(rows, label_set)] for cells, rows in lines]
    write_csv(path, [*heading, *f1_headings(label_set)], rows)


def text_table(systems: Mapping[str, F1Rows], label_set: LabelSet) -> str:
    """Returns F1 as a plain text table for a job's log.

    Args:
        systems: by system, the rows of `f1_rows`; a row that is missing or None is printed `-`.
        label_set: whose rows are the columns; more than fit on a line are the lines.

    Returns:
        A line of headings and one for each system, or for each row of F1 where there are many;
        without a newline at the end.
    """
    headings = f1_headings(label_set)
    lines = [
        [name, *(format_f1(rows.get(row)) for row in headings)] for name, rows in systems.items()
    ]
    table: list[Sequence[object]] = [["", *headings.values()], *lines]
    if len(headings) > MOST_COLUMNS:
        table = list(zip(*table, strict=True))
    return Table(table[0], table[1:]).text
