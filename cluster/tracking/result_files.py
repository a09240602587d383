"""Publishes the files of an experiment in MLflow and in storage."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.tracking.provenance import command_line, git_commit
from cluster.tracking.tracker import Run
from stn_icnn.reporting.documents import PAGE, Block, Heading, Origin
from stn_icnn.reporting.run_results import ComparedSettings
from stn_icnn.storage import StorageLocation

ARTIFACT = "paper"
EXPERIMENT_REPORT = f"{ARTIFACT}/{PAGE}"
"""The report of an experiment, or of what a fine-tuning is compared with, among the artifacts."""


def publish(folder: Path, run: Run, storage: StorageLocation) -> None:
    """Copies an experiment's files into MLflow and storage.

    Args:
        folder: the folder of the files, without folders in it.
        run: the run that gets them as artifacts.
        storage: the location of the run.
    """
    run.log_artifacts(folder, ARTIFACT)
    for path in sorted(folder.iterdir()):
        storage.write(path.name, path.read_bytes())


def closing_blocks(run: Run, compared: ComparedSettings) -> list[Block]:
    """Returns the end of a report: the job's settings, and the command that repeats it."""
    origin = Origin(command_line(), git_commit(), run.run_id)
    return [Heading("Settings"), compared, Heading("Run it again"), origin]


@contextmanager
def publishing(run: Run, storage: StorageLocation) -> Iterator[Path]:
    """Yields a folder for an experiment's files, then publishes them and prints its Markdown."""
    with tempfile.TemporaryDirectory(prefix="stn-icnn-report-") as name:
        folder = Path(name)
        yield folder
        publish(folder, run, storage)
        for path in sorted(folder.glob("*.md")):
            print(path.read_text(encoding="utf-8"), flush=True)
