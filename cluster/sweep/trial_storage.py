"""Where one phase of a trial keeps its checkpoint and its reports."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stn_icnn.networks.checkpoint import MODEL_FILE
from stn_icnn.storage import StorageLocation

LATEST = "latest.json"
REPORTS = "reports.json"

Report = dict[str, Any]


class TrialStorage:
    """Holds a phase's checkpoint and reports at a location. Not for several processes at a time.

    A checkpoint is a folder of its own until `latest.json` names it, so that a process which is
    killed in between leaves the one before.
    """

    def __init__(self, location: StorageLocation) -> None:
        """Touches nothing."""
        self.location = location

    def reports(self) -> list[Report]:
        """One an epoch that was trained, in order."""
        reports: list[Report] = self._read(REPORTS, [])
        return reports

    def add_report(self, report: Report) -> None:
        """Keeps an epoch's report; one that comes again replaces what it reported before."""
        others = [other for other in self.reports() if other["epoch"] < report["epoch"]]
        self.location.write(REPORTS, json.dumps([*others, report]).encode())

    def keep(self, folder: Path, name: str, report: Report | None) -> None:
        """Keeps a checkpoint, in place of the one before, with the report of the epoch it ends.

        Args:
            folder: with its files.
            name: that no other checkpoint of the phase has.
            report: None within an epoch.
        """
        for file in sorted(folder.iterdir()):
            self.location.write(f"{name}/{file.name}", file.read_bytes())
        if report is not None:
            self.add_report(report)
        self.location.write(LATEST, json.dumps({"folder": name}).encode())
        for path in self.location.list():  # also what a process that was killed here has left
            if path not in (LATEST, REPORTS) and not path.startswith(f"{name}/"):
                self.location.delete(path)

    @contextmanager
    def checkpoint(self) -> Iterator[Path | None]:
        """A local copy of the latest checkpoint; None where there is none."""
        name = self._read(LATEST, {}).get("folder")
        if name is None:
            yield None
            return
        with tempfile.TemporaryDirectory() as folder:
            for path in self.location.list(name):
                (Path(folder) / Path(path).name).write_bytes(self.location.read(path))
            yield Path(folder)

    def model(self) -> bytes:
        """The model file of the latest checkpoint.

        Raises:
            FileNotFoundError: where there is none.
        """
        name = self._read(LATEST, {}).get("folder")
        if name is None:
            raise FileNotFoundError(f"{self.location.url} holds no checkpoint")
        return self.location.read(f"{name}/{MODEL_FILE}")

    def _read(self, file: str, otherwise: Any) -> Any:
        return json.loads(self.location.read(file)) if self.location.exists(file) else otherwise
