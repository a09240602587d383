"""The experiments that measure: they train nothing, run in one process and take minutes at most.

A result is kept in storage with the settings that it came from. So the same command with the same
`--run-name` gives it again, and one with other settings is refused.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cluster.job_ending import print_ending
from cluster.job_setup import JobEnvironment
from cluster.paper.config import ExperimentConfig
from cluster.storage.records import as_stored, read_record, require_same_settings, write_record
from cluster.tracking.result_files import EXPERIMENT_REPORT, publish
from cluster.tracking.stored_models import FetchedModel
from cluster.tracking.tracker import run_tags
from cluster.training.run_record import FILE as TRAINING_RECORD
from stn_icnn.storage import StorageLocation
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.training.phases import system_of

RECORD: Final = "experiment.json"


Measurement = Callable[[Path], ExperimentResult]
"""A function that measures, and writes its files into a folder, without folders in it."""


@dataclass(frozen=True)
class StudiedModel(FetchedModel):
    """A trained model that an experiment is about."""

    @property
    def system(self) -> str:
        """The paper's name for the model; a localizer's is that of the system it is trained for."""
        phase = self.checkpoint.phase
        return system_of("frozen" if phase == "localizer" else phase)


def run_experiment(
    name: str,
    environment: JobEnvironment,
    config: ExperimentConfig,
    facts: Mapping[str, str | None],
    measure: Measurement,
) -> dict[str, Any]:
    """Measures and tracks a run in MLflow, or gives the result again that the run has stored.

    Args:
        name: name of the experiment.
        environment: the job's storage and tracking.
        config: the job's settings.
        facts: what else the result depends on: `data_fingerprint`, `model_sha256`.
        measure: the measurement.

    Returns:
        The job's last line: `run_id`, `run_name`, `experiment`, and the result.

    Raises:
        ValueError: naming the settings in which the run of this name was started otherwise.
    """
    settings = _settings(name, config, facts)
    storage = environment.run_storage
    record = _finished_record(storage, settings)
    tags = {**run_tags(facts.get("data_fingerprint"), None), "kind": "paper", "experiment": name}
    run = environment.tracker.start_or_resume_run(environment.run_name, tags=tags, params=settings)
    with run.finishing(), tempfile.TemporaryDirectory(prefix=f"stn-icnn-{name}-") as path:
        folder = Path(path)
        if record is None:
            result = asdict(measure(folder))
            files = sorted(file.name for file in folder.iterdir())
            record = {"settings": settings, "files": files, **result}
        else:
            print(f"{name}: finished before", flush=True)
            for file in record["files"]:
                (folder / file).write_bytes(storage.read(file))
        publish(folder, run, storage)
        write_record(storage, RECORD, record)  # last: all files are there
        run.log_metrics(record["metrics"], step=0)
    print("\n".join(record["table"]), flush=True)
    print_ending(run, f"{run.name} is done", {}, {"report": EXPERIMENT_REPORT})
    return run.last_line({"experiment": name, **record["result"]})


def _settings(
    name: str, config: ExperimentConfig, facts: Mapping[str, str | None]
) -> dict[str, Any]:
    """Returns all that a result depends on, as a record gives it back."""
    shared = asdict(ExperimentConfig())
    own = {key: value for key, value in asdict(config).items() if key not in shared}
    return as_stored({"experiment": name, **own, **facts})


def _finished_record(
    storage: StorageLocation, settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Returns the record of the run if it is finished; None if it is not."""
    if storage.exists(TRAINING_RECORD):
        raise ValueError(f"the run at {storage.url} is a training: give another --run-name")
    if not storage.exists(RECORD):
        return None
    record: dict[str, Any] = read_record(storage, RECORD)
    require_same_settings(f"the run at {storage.url}", settings, record["settings"])
    return record
