"""What a run has done so far, in its storage: what makes the same command go on."""

import json
import re
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import ray.train

from sharding.storage import open_place
from stn_icnn.checkpoint import MODEL_FILE
from stn_icnn.config import PhaseName, TrainConfig, differences, to_dict

FILE = "run.json"


def new_run_name(prefix: str) -> str:
    """A name that no other run has, though it be started in the same second."""
    return f"{prefix}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"


def require_name(run_name: str) -> None:
    """Refuses what is no name of a folder.

    Raises:
        ValueError: saying what a name is.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run_name):
        raise ValueError(
            "run_name must be letters, digits, dots, dashes and underscores, and begin with a "
            f"letter or digit, got {run_name!r}"
        )


@dataclass(frozen=True)
class RunRecord:
    """A run's place, what it was started with, and the phases that it has finished."""

    storage: str
    """The run's own folder or `s3://` address."""
    content: dict[str, Any]

    @classmethod
    def open(cls, storage: str, config: TrainConfig, data_fingerprint: str) -> Self:
        """Starts a run's record, or takes it up.

        Raises:
            ValueError: naming the settings in which the run of this name was started otherwise.
        """
        content = {
            "config": json.loads(json.dumps(to_dict(config))),
            "data_fingerprint": data_fingerprint,
        }
        place = open_place(storage)
        if not place.exists(FILE):
            record = cls(storage, {**content, "finished": []})
            record._write()
            return record
        earlier = json.loads(place.read(FILE))
        changed = differences(content, {name: earlier[name] for name in content})
        if changed:
            raise ValueError(
                f"the run at {storage} was started with other settings ({'; '.join(changed)}): "
                "repeat them to go on with it, or give another --run-name"
            )
        return cls(storage, earlier)

    def has_finished(self, phase: PhaseName) -> bool:
        """Whether a phase has been trained to its end."""
        return phase in self.content["finished"]

    def finish(self, phase: PhaseName) -> None:
        """Records that a phase has been trained to its end."""
        self.content["finished"].append(phase)
        self._write()

    def model(self, phase: PhaseName) -> bytes:
        """The model file of a finished phase.

        Raises:
            ValueError: where its checkpoint is gone.
        """
        checkpoint = ray.train.Result.from_path(f"{self.storage}/{phase}").checkpoint
        if checkpoint is None:
            raise ValueError(
                f"{self.storage}/{phase} holds no checkpoint though the phase was finished: "
                "restore it, or give another --run-name"
            )
        with checkpoint.as_directory() as folder:
            return (Path(folder) / MODEL_FILE).read_bytes()

    def _write(self) -> None:
        open_place(self.storage).write(FILE, json.dumps(self.content, indent=1).encode())
