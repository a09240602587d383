"""The record of a training in its storage, by which the same command goes on."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import ray.train

from cluster.storage.records import create_or_load, write_record
from stn_icnn.config import TrainConfig
from stn_icnn.networks.checkpoint import MODEL_FILE
from stn_icnn.storage import StorageLocation
from stn_icnn.training.phases import PhaseName
from stn_icnn.training.state import STATE_FILE, load_history

FILE = "run.json"


def finished_file(run: StorageLocation, file: str) -> bytes:
    """Reads a file in the last checkpoint of a Ray Train run that has finished.

    Raises:
        ValueError: where its checkpoint is gone.
    """
    checkpoint = ray.train.Result.from_path(run.url).checkpoint
    if checkpoint is None:
        raise ValueError(
            f"{run.url} holds no checkpoint though the phase was finished: restore it, or give "
            "another --run-name"
        )
    with checkpoint.as_directory() as folder:
        return (Path(folder) / file).read_bytes()


@dataclass(frozen=True)
class RunRecord:
    """The stored record of a training: the settings it was started with, the finished phases."""

    storage: StorageLocation
    """The run's own location."""
    content: dict[str, Any]
    """The contents of the stored file."""
    _histories: dict[PhaseName, list[dict[str, float]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """The histories of finished phases that have been read."""

    @classmethod
    def open(
        cls,
        storage: StorageLocation,
        config: TrainConfig,
        data_fingerprint: str,
        num_images: int | None = None,
        parent_sha256: str | None = None,
        kind: str | None = None,
    ) -> Self:
        """Creates the record of a run that is new, or loads that of a run that goes on.

        Args:
            storage: the run's own location.
            config: the settings of the training.
            data_fingerprint: the fingerprint of the shards that it is trained on.
            num_images: how many images it is trained on; None: all of the training split.
            parent_sha256: the digest of the model file that it starts from; None: it starts from
                scratch.
            kind: the kind of job, where it is not the main one: a run is of one kind.

        Raises:
            ValueError: naming the settings in which the run of this name was started otherwise.
        """
        content = {
            "config": asdict(config),
            "data_fingerprint": data_fingerprint,
            "num_images": num_images,
            "parent_sha256": parent_sha256,
            "kind": kind,
        }
        new: dict[str, Any] = {**content, "finished": []}
        return cls(storage, create_or_load(storage, FILE, new, tuple(content)))

    def has_finished(self, phase: PhaseName) -> bool:
        """Tells whether a phase has been trained to its end."""
        return phase in self.content["finished"]

    def computed_on(self, phase: PhaseName) -> list[str]:
        """Returns the machines of a phase's first worker, one after another, as recorded."""
        machines: list[str] = self.content.get("computed_on", {}).get(phase, [])
        return machines

    def add_machine(self, phase: PhaseName, machine: str) -> None:
        """Records the machine that a phase is trained on, unless it is the last one recorded."""
        machines = self.computed_on(phase)
        if machines[-1:] == [machine]:
            return
        by_phase = {**self.content.get("computed_on", {}), phase: [*machines, machine]}
        self.write_entry("computed_on", by_phase)

    def workers(self, phase: PhaseName) -> list[tuple[int, int]]:
        """Returns from which step of a phase how many workers trained, where that has changed."""
        return [(step, number) for step, number in self.content.get("workers", {}).get(phase, [])]

    def add_workers(self, phase: PhaseName, step: int, number: int) -> None:
        """Records that a phase goes on with so many workers from a step, which may come again."""
        before = [one for one in self.workers(phase) if one[0] < step]
        by_phase = {**self.content.get("workers", {}), phase: [*before, (step, number)]}
        self.write_entry("workers", by_phase)

    def mark_finished(self, phase: PhaseName) -> None:
        """Records that a phase has been trained to its end."""
        self.content["finished"].append(phase)
        self._write()

    def model(self, phase: PhaseName) -> bytes:
        """Reads the model file of a finished phase.

        Raises:
            ValueError: where its checkpoint is gone.
        """
        return finished_file(self.storage.child(phase), MODEL_FILE)

    def history(self, phase: PhaseName) -> list[dict[str, float]]:
        """Returns the metrics of each epoch of a finished phase, however often it was stopped.

        They are read from its last checkpoint, once.

        Raises:
            ValueError: where its checkpoint is gone.
        """
        if phase not in self._histories:
            content = finished_file(self.storage.child(phase), STATE_FILE)
            self._histories[phase] = load_history(content)
        return self._histories[phase]

    def write_entry(self, name: str, value: Any) -> None:
        """Records an entry, of types that JSON holds, for when the run goes on."""
        self.content[name] = value
        self._write()

    def _write(self) -> None:
        write_record(self.storage, FILE, self.content)
