"""The experiments that measure: they train nothing, run in one process and take minutes at most.

A result is kept in storage with the settings that it came from. So the same command with the same
`--run-name` gives it again, and one with other settings is refused.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from cluster.job_ending import parse_command, print_ending
from cluster.job_setup import JobEnvironment
from cluster.paper.config import ExperimentConfig
from cluster.run_notes import log_f1, log_machines, result_note, unfinished_note
from cluster.storage.datasets import ShardedData
from cluster.storage.records import as_stored, read_record, require_same_settings, write_record
from cluster.tracking.result_files import EXPERIMENT_REPORT, closing_blocks, publish
from cluster.tracking.stored_models import FetchedModel
from cluster.tracking.tracker import run_tags
from cluster.training.run_record import FILE as TRAINING_RECORD
from stn_icnn.config_dict import differing_settings
from stn_icnn.label_sets import PAPER9
from stn_icnn.reporting.documents import Block
from stn_icnn.reporting.run_results import ComparedSettings
from stn_icnn.storage import StorageLocation
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.training.phases import PHASES, system_of

RECORD: Final = "experiment.json"


Measurement = Callable[[Path, Sequence[Block]], ExperimentResult]
"""A function that measures, and writes its files into a folder, without folders in it; its report
ends with the blocks."""


@dataclass(frozen=True)
class StudiedModel(FetchedModel):
    """A trained model that an experiment is about."""

    @property
    def system(self) -> str:
        """The paper's name for the model; a localizer's is that of the system it is trained for."""
        phase = self.checkpoint.phase
        return system_of("frozen" if phase == "localizer" else phase)

    @property
    def is_whole(self) -> bool:
        """Whether all of its networks are trained, so that it can parse."""
        return PHASES[self.checkpoint.phase].system is not None


def run_experiment(
    name: str,
    environment: JobEnvironment,
    config: ExperimentConfig,
    facts: Mapping[str, str | None],
    measure: Measurement,
    data: ShardedData | None = None,
    model: StudiedModel | None = None,
) -> dict[str, Any]:
    """Measures and tracks a run in MLflow, or gives the result again that the run has stored.

    Args:
        name: name of the experiment.
        environment: the job's storage and tracking.
        config: the job's settings.
        facts: what else the result depends on: `data_fingerprint`, `model_sha256`.
        measure: the measurement.
        data: the data set, whose `config.split` is measured on; None: faces are drawn.
        model: the model that is measured; None: none is.

    Returns:
        The job's last line: `run_id`, `run_name`, `experiment`, and the result.

    Raises:
        ValueError: naming the settings in which the run of this name was started otherwise.
    """
    settings = _settings(name, config, facts)
    storage = environment.run_storage
    record = _finished_record(storage, settings)
    tags = {**run_tags(facts.get("data_fingerprint"), None), "kind": "paper", "experiment": name}
    params = {**settings, "data": data.name} if data else settings
    run = environment.tracker.start_or_resume_run(environment.run_name, tags=tags, params=params)
    if data is not None:
        run.log_data(data, [settings["split"]])
    run.describe(unfinished_note(run.name))
    with run.finishing(), tempfile.TemporaryDirectory(prefix=f"stn-icnn-{name}-") as path:
        folder = Path(path)
        if record is None:
            result = asdict(measure(folder, closing_blocks(run, _compared(config))))
            files = sorted(file.name for file in folder.iterdir())
            record = {"settings": settings, "files": files, **result}
        else:
            print(f"{name}: finished before", flush=True)
            for file in record["files"]:
                (folder / file).write_bytes(storage.read(file))
        publish(folder, run, storage)
        write_record(storage, RECORD, record)  # last: all files are there
        run.log_metrics(record["metrics"], step=0)
        # An earlier version recorded neither headline nor F1 nor machine.
        headline = record.get("headline") or f"{run.name} is done"
        if record.get("f1"):
            log_f1(run, settings["split"], record["f1"], PAPER9)
        log_machines(run, [record.get("machine", "")])
        next_steps = {}
        if model is not None and model.is_whole:
            next_steps["parse"] = parse_command(run, model.given)
        run.describe(result_note(headline, "", next_steps))
    print("\n".join(record["table"]), flush=True)
    print_ending(run, headline, next_steps, {"report": EXPERIMENT_REPORT})
    return run.last_line({"experiment": name, **record["result"]})


def _compared(config: ExperimentConfig) -> ComparedSettings:
    """Returns an experiment's own settings beside their defaults."""
    own = _own_settings(config)
    defaults = {
        one.name: one.default
        for one in fields(config)
        if one.name in own and one.default is not MISSING
    }
    changed = differing_settings({name: own[name] for name in defaults}, defaults)
    return ComparedSettings("the defaults", changed, own)


def _settings(
    name: str, config: ExperimentConfig, facts: Mapping[str, str | None]
) -> dict[str, Any]:
    """Returns all that a result depends on, as a record gives it back."""
    return as_stored({"experiment": name, **_own_settings(config), **facts})


def _own_settings(config: ExperimentConfig) -> dict[str, Any]:
    """Returns the settings that not every experiment has."""
    shared = asdict(ExperimentConfig())
    return {key: value for key, value in asdict(config).items() if key not in shared}


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
