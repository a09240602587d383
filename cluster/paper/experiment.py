"""What the experiments of one process share: how a model is opened, and how a result is kept.

They train nothing and take seconds to minutes. A result is kept in storage with the settings that
it came from, so that the same command with the same `--run-name` gives it again, and another one is
refused.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from cluster.config import UNPREFIXED, LocationsConfig
from cluster.job_setup import JobEnvironment
from cluster.storage.records import (
    as_stored,
    read_record,
    require_same_settings,
    write_record,
)
from cluster.tracking.result_files import publish
from cluster.tracking.stored_models import FetchedModel
from cluster.tracking.tracker import run_tags
from cluster.training.run_record import FILE as TRAINING_RECORD
from stn_icnn.config import Network
from stn_icnn.storage import StorageLocation
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.training.phases import system_of

RECORD: Final = "experiment.json"


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """What every experiment of one process is given."""

    run_name: str | None = None
    """Names the run; the same command with the same name gives the same result again."""
    locations: Annotated[LocationsConfig, UNPREFIXED] = field(default_factory=LocationsConfig)
    """Where results are stored and the run is tracked."""


Measurement = Callable[[Path], ExperimentResult]
"""Writes its files into a folder, and no folders."""


@dataclass(frozen=True)
class OpenedModel(FetchedModel):
    """A model that an experiment is about."""

    @property
    def system(self) -> str:
        """The paper's name for it, where its localizer is trained."""
        phase = self.checkpoint.phase
        return system_of("frozen" if phase == "localizer" else phase)


def open_model(given: str, tracking_uri: str, needed: Sequence[Network]) -> OpenedModel:
    """Fetches a model.

    Args:
        given: as `resolve_model` takes it.
        tracking_uri: of the job.
        needed: its networks that must have been trained.

    Raises:
        ValueError: where it is not there, not ours, or one of these networks is not in it or has
            learnt nothing.
    """
    model = OpenedModel.fetch(given, tracking_uri)
    model.require_trained("the experiment", needed)
    return model


def run_experiment(
    name: str,
    environment: JobEnvironment,
    config: ExperimentConfig,
    facts: Mapping[str, str | None],
    measure: Measurement,
) -> dict[str, Any]:
    """Does an experiment as a run in MLflow, unless the run of this name has done it.

    Args:
        name: of the experiment.
        environment: of the job.
        config: all of its settings.
        facts: what else the result depends on: `data_fingerprint`, `model_sha256`.
        measure: the experiment; it writes its files into a folder.

    Returns:
        The job's last line: `run_id`, `run_name`, `experiment`, and what it found.

    Raises:
        ValueError: naming the settings in which the run of this name was started otherwise.
    """
    settings = _settings(name, config, facts)
    storage = environment.run_storage
    record = _earlier(storage, settings)
    tags = {**run_tags(facts.get("data_fingerprint"), None), "kind": "paper", "experiment": name}
    run = environment.tracker.start_or_resume_run(environment.run_name, tags=tags, params=settings)
    with run.finishing(), tempfile.TemporaryDirectory(prefix=f"stn-icnn-{name}-") as scratch:
        folder = Path(scratch)
        if record is None:
            found = asdict(measure(folder))
            files = sorted(path.name for path in folder.iterdir())
            record = {"settings": settings, "files": files, **found}
        else:
            print(f"{name}: finished before", flush=True)
            for file in record["files"]:
                (folder / file).write_bytes(storage.read(file))
        publish(folder, run, storage)
        write_record(storage, RECORD, record)  # last: all files are there
        run.log_metrics(record["metrics"], step=0)
    print("\n".join(record["table"]), flush=True)
    line = {"run_id": run.run_id, "run_name": environment.run_name, "experiment": name}
    return environment.tracker.last_line({**line, **record["result"]})


def _settings(
    name: str, config: ExperimentConfig, facts: Mapping[str, str | None]
) -> dict[str, Any]:
    """What a result depends on, as JSON gives it back."""
    shared = asdict(ExperimentConfig())
    own = {key: value for key, value in asdict(config).items() if key not in shared}
    return as_stored({"experiment": name, **own, **facts})


def _earlier(storage: StorageLocation, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the run has left, if it is finished."""
    if storage.exists(TRAINING_RECORD):
        raise ValueError(f"the run at {storage.url} is a training: give another --run-name")
    if not storage.exists(RECORD):
        return None
    record: dict[str, Any] = read_record(storage, RECORD)
    require_same_settings(f"the run at {storage.url}", settings, record["settings"])
    return record
