"""The paper's Tables 2 and 3: iCNN, STN-iCNN* and STN-iCNN, each over some seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from torch import Tensor

from cluster.beginning import open_places
from cluster.config import JobConfig
from cluster.paper.results import publishing
from cluster.paper.systems import System, train_and_score
from cluster.paper.table_report import TableReport, differences_of, write_table
from cluster.run_record import new_run_name
from cluster.training import Training, branch, log_config, open_training
from stn_icnn.config import require
from stn_icnn.phases import SYSTEMS

ALL: tuple[System, ...] = get_args(System)


@dataclass(frozen=True, kw_only=True)
class TableConfig(JobConfig):
    """The table: a training job's settings, for all systems alike."""

    seeds: int = 2
    """Trainings of each system, with seeds one apart from `seed`. More may be asked for when a run
    is gone on with."""
    systems: tuple[System, ...] = ALL
    """Which of the paper's systems: iCNN (two stages), STN-iCNN* (before end-to-end training),
    STN-iCNN."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.seeds >= 1, "seeds", "at least 1", self.seeds)
        in_order = tuple(system for system in ALL if system in self.systems)
        require(
            len(in_order) > 0 and in_order == self.systems,
            "systems",
            f"one or more of {', '.join(ALL)}, in this order, each once",
            " ".join(self.systems) or "none",
        )


def run_table(settings: TableConfig, preset: str) -> dict[str, Any]:
    """Trains and scores the systems with each seed; the table is written anew after each.

    Args:
        settings: all of the job's.
        preset: that they started from, for the record.

    Returns:
        The job's last line: `run_id`, `run_name`, `overall` (by system, a list over the seeds),
        `differences` (paired), `storage`, …

    Raises:
        ValueError: for settings, data or resources that can't be used, before any training.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where a loss is not finite any more, or workers failed too often.
    """
    places = open_places(settings, settings.run_name or new_run_name(f"table-{preset}"))
    whole = open_training(settings, preset, places, kind="table")
    counts: dict[int, Mapping[str, Tensor]] = {}
    with whole.run.finishing():
        whole.run.set_tags({"kind": "paper", "experiment": "table"})
        log_config(whole.run, whole.config)
        first = whole.config.seed
        trainings = {
            seed: branch(whole, f"seed-{seed}", replace(whole.config, seed=seed))
            for seed in range(first, first + settings.seeds)
        }
        for seed, training in trainings.items():
            print(f"seed {seed}", flush=True)
            counts[seed] = train_and_score(training, settings.systems)
            report = TableReport(
                f"{whole.run.name}: the paper's systems on {whole.data.name}",
                whole.data.name,
                settings.systems,
                counts,
            )
            _publish(whole, report)
    return places.tracker.last_line(_last_line(whole, report))


def _publish(whole: Training, report: TableReport) -> None:
    with publishing(whole.run, whole.record.storage) as folder:
        write_table(folder, report)
    for system in report.systems:
        overall = report.mean(system, "overall")
        whole.run.log_metrics(
            {f"{SYSTEMS[system]}/test/f1_overall": overall}, step=len(report.counts)
        )


def _last_line(whole: Training, report: TableReport) -> dict[str, Any]:
    return {
        "run_id": whole.run.run_id,
        "run_name": whole.run.name,
        "storage": whole.record.storage,
        "data_fingerprint": whole.data.manifest.fingerprint,
        "overall": {
            system: [rows["overall"] for rows in report.rows_of(system).values()]
            for system in report.systems
        },
        "differences": {
            f"{one.better} - {one.worse}": [one.of_seeds.mean, *one.interval]
            for one in differences_of(report)
        },
    }
