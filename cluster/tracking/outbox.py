"""An outbox of records for a store that may be away, with a copy on disk; it knows no MLflow.

A record is a plain dict: `op`, the run's `name` and `parent` id (by which it is found again, or
made), and what the operation needs. The file, one JSON record a line, outlives a killed driver: the
next driver of the same job goes on with it.
"""

import json
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from stn_icnn.json_numbers import replace_nonfinite

RETRY_AFTER_S: Final = 10
"""Seconds that a store is left alone after a failure, so that training waits for no time-outs."""

Record = dict[str, Any]

_logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """The store's answer that it will not take the record, now or later."""


class Outbox:
    """Delivers records to a store in order, and holds those that must wait.

    It is not safe for threads by itself.

    Attributes:
        refused: the records that the store refused.
    """

    def __init__(
        self,
        deliver: Callable[[Record], None],
        folder: Path,
        job_id: str,
        wanted: Callable[[Record], bool] = lambda record: True,
    ) -> None:
        """Makes an outbox of the `wanted` records that the job's last driver left.

        Args:
            deliver: hands one record to the store. It raises `RefusedError` where that is no use,
                and `OSError` where the store is away.
            folder: a local folder that outlives the job.
            job_id: the job's id, by which its file is named.
            wanted: tells of a record whether it still holds.
        """
        self._deliver = deliver
        self._file = OutboxFile(folder, job_id)
        self._pending = deque(filter(wanted, self._file.read()))
        self.refused: list[Record] = []
        self._retry_at = 0.0

    @property
    def undelivered(self) -> Path | None:
        """The file that holds what was not delivered; None where nothing is left."""
        return self._file.path if self._file.path.exists() else None

    def add(self, record: Record) -> None:
        """Delivers the record after those before it, or holds it until the store takes it."""
        self._pending.append(record)
        self.flush()
        waits = any(other is record for other in (*self.refused, *self._pending))
        if waits and "path" in record:
            try:
                self._file.copy_artifacts(record)
            except OSError as error:
                _logger.error("no copy could be made of %s: %s", record["path"], error)
            self._save()

    def flush(self, force: bool = False) -> None:
        """Delivers what waits, as far as the store takes it.

        Args:
            force: whether it is also tried shortly after a failure, and with what was refused.
        """
        if force:
            self._pending.extendleft(reversed(self.refused))
            self.refused.clear()
        if force or time.monotonic() >= self._retry_at:
            self._deliver_pending()
        self._save()

    def _deliver_pending(self) -> None:
        while self._pending:
            record = self._pending[0]
            try:
                self._deliver(record)
            except RefusedError as error:
                record["refused"] = str(error)
                self.refused.append(record)
                _logger.warning("refused, and kept in a file: %s: %s", record["op"], error)
            except OSError as error:
                self._retry_at = time.monotonic() + RETRY_AFTER_S
                _logger.warning("%s; %d records wait for it", error, len(self._pending))
                return
            else:
                self._file.remove_copies(record)
            self._pending.popleft()

    def _save(self) -> None:
        try:
            self._file.write([*self.refused, *self._pending])
        except OSError as error:
            _logger.error("what waits cannot be kept in %s: %s", self._file.path, error)


class OutboxFile:
    """The file of one job's undelivered records, and copies of the artifacts that they name."""

    def __init__(self, folder: Path, job_id: str) -> None:
        """Names the file and the folder of copies; makes neither."""
        self.path = folder / f"{job_id}.jsonl"
        self._files = folder / job_id

    def read(self) -> list[Record]:
        """Returns the records that an earlier driver of this job left, if there is a file."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]

    def write(self, records: Sequence[Record]) -> None:
        """Makes the file hold `records`; with none, no file is left."""
        if not records:
            self.path.unlink(missing_ok=True)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # JSON has no NaN: "nan" and "inf" as strings, which float() reads.
        lines = (replace_nonfinite(record, str) for record in records)
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        part = self.path.with_suffix(".part")
        part.write_text(text, "utf-8")
        os.replace(part, self.path)

    def copy_artifacts(self, record: Record) -> None:
        """Copies the record's artifacts: the caller's folder may be a temporary one."""
        source = Path(record["path"])
        taken = self._files.iterdir() if self._files.is_dir() else ()
        number = max((int(folder.name) for folder in taken), default=-1) + 1
        target = self._files / f"{number:03d}" / source.name
        target.parent.mkdir(parents=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
        record["path"], record["kept"] = str(target), True

    def remove_copies(self, record: Record) -> None:
        """Removes the copies that `copy_artifacts` made."""
        if record.get("kept"):
            shutil.rmtree(Path(record["path"]).parent, ignore_errors=True)
            if self._files.is_dir() and not any(self._files.iterdir()):
                self._files.rmdir()
