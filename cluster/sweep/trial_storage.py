"""The storage of one phase of a trial: its latest checkpoint and its reports."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.storage.records import read_record
from cluster.workers.reports import report_from_dict, report_to_dict
from stn_icnn.context import EpochReport, TrainReport
from stn_icnn.networks.checkpoint import MODEL_FILE
from stn_icnn.storage import StorageLocation

LATEST = "latest.json"
REPORTS = "reports.json"


class TrialStorage:
    """The latest checkpoint and the reports of a phase, for one process at a time.

    A checkpoint is a folder of its own until `latest.json` names it, so that a process which is
    killed in between leaves the one before.
    """

    def __init__(self, location: StorageLocation) -> None:
        """Remembers the location, and touches nothing there."""
        self.location = location

    def reports(self) -> list[EpochReport]:
        """Returns the reports of the epochs that were trained, in order."""
        reports = map(report_from_dict, self._read(REPORTS, []))
        return [report for report in reports if isinstance(report, EpochReport)]

    def add_report(self, report: EpochReport) -> None:
        """Stores an epoch's report, in place of earlier ones of that epoch and those after it."""
        reports = [*(one for one in self.reports() if one.epoch < report.epoch), report]
        self.location.write(REPORTS, json.dumps([report_to_dict(one) for one in reports]).encode())

    def save(self, folder: Path, report: TrainReport) -> None:
        """Stores a checkpoint, in place of the one before, and the report of an epoch that it ends.

        Args:
            folder: the folder with the checkpoint's files.
            report: the checkpoint's report.
        """
        name = report.checkpoint_name
        for file in sorted(folder.iterdir()):
            self.location.write(f"{name}/{file.name}", file.read_bytes())
        if isinstance(report, EpochReport):
            self.add_report(report)
        self.location.write(LATEST, json.dumps({"folder": name}).encode())
        for path in self.location.list():  # also files that a killed process has left
            if path not in (LATEST, REPORTS) and not path.startswith(f"{name}/"):
                self.location.delete(path)

    @contextmanager
    def checkpoint(self) -> Iterator[Path | None]:
        """Yields a folder with a copy of the latest checkpoint; None where there is none."""
        name = self._read(LATEST, {}).get("folder")
        if name is None:
            yield None
            return
        with tempfile.TemporaryDirectory() as folder:
            for path in self.location.list(name):
                (Path(folder) / Path(path).name).write_bytes(self.location.read(path))
            yield Path(folder)

    def model(self) -> bytes:
        """Returns the model file of the latest checkpoint.

        Raises:
            FileNotFoundError: where there is none.
        """
        name = self._read(LATEST, {}).get("folder")
        if name is None:
            raise FileNotFoundError(f"{self.location.url} holds no checkpoint")
        return self.location.read(f"{name}/{MODEL_FILE}")

    def _read(self, file: str, default: Any) -> Any:
        return read_record(self.location, file) if self.location.exists(file) else default
