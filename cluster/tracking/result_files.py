"""What an experiment leaves: files in MLflow and in storage; its tables as Markdown and CSV."""

import csv
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.tracking.tracker import Run
from sharding.storage.location import open_location

ARTIFACT = "paper"


def publish(folder: Path, run: Run, storage: str) -> None:
    """Puts an experiment's files where they can be found.

    Args:
        folder: whose files they are; none in folders of it.
        run: which gets them as artifacts.
        storage: the run's own folder or `s3://` address.
    """
    run.log_artifacts(folder, ARTIFACT)
    place = open_location(storage)
    for path in sorted(folder.iterdir()):
        place.write(path.name, path.read_bytes())


@contextmanager
def publishing(run: Run, storage: str) -> Iterator[Path]:
    """A folder for an experiment's files; they are published at the end, its Markdown printed."""
    with tempfile.TemporaryDirectory(prefix="stn-icnn-report-") as name:
        folder = Path(name)
        yield folder
        publish(folder, run, storage)
        for path in sorted(folder.glob("*.md")):
            print(path.read_text(encoding="utf-8"), flush=True)


def markdown_table(heading: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table; None is `-`."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |"

    return [line(heading), "|---" * len(heading) + "|", *map(line, rows)]


def write_csv(path: Path, heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Writes a table as a CSV file; None is an empty field."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([heading, *rows])


def f1_cell(value: float | None) -> str | None:
    """F1 as it is printed; None where there is none."""
    return None if value is None else f"{value:.3f}"


def in_markdown(text: str) -> str:
    """A name with its asterisk as such."""
    return text.replace("*", r"\*")
