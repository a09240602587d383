"""The job of Tables 2 and 3, which compares iCNN, STN-iCNN* and STN-iCNN over some seeds."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from cluster.paper.config import TableConfig
from cluster.paper.systems import phases_of, train_and_score
from cluster.paper.training_experiment import last_line, training_experiment
from cluster.tracking.result_files import publishing
from cluster.training.setup import Training, child_training
from stn_icnn.studies.table_report import TableReport, write_table
from stn_icnn.training.phases import SYSTEMS


def run_table(settings: TableConfig, preset: str) -> dict[str, Any]:
    """Trains and scores the systems with each seed; the table is written anew after each.

    Args:
        settings: the job's settings.
        preset: name of the preset that they started from.

    Returns:
        The job's last line: `run_id`, `run_name`, `overall` (by system, a list over the seeds),
        `differences` (paired), `storage`, …

    Raises:
        ValueError: for settings, data or resources that can't be used, before any training.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where a loss is not finite any more, or workers failed too often.
    """
    counts: dict[int, Mapping[str, Tensor]] = {}
    with training_experiment("table", settings, preset) as experiment:
        config, dataset = experiment.config, experiment.data.name
        trainings = {
            seed: child_training(experiment, f"seed-{seed}", replace(config, seed=seed))
            for seed in range(config.seed, config.seed + settings.seeds)
        }
        title = f"{experiment.run.name}: the paper's systems on {dataset}"
        for training in trainings.values():
            training.expect(phases_of(settings.systems))
        for seed, training in trainings.items():
            print(f"seed {seed}", flush=True)
            counts[seed] = train_and_score(training, settings.systems)
            report = TableReport(title, dataset, settings.systems, counts, config.model.label_set)
            _publish(experiment, report)
    return last_line(experiment, report.result)


def _publish(experiment: Training, report: TableReport) -> None:
    """Writes the report to MLflow and storage, and logs the systems' mean F1 to MLflow."""
    with publishing(experiment.run, experiment.record.storage) as folder:
        write_table(folder, report)
    overall = {
        f"{SYSTEMS[system]}/test/f1_overall": report.mean(system, "overall")
        for system in report.systems
    }
    experiment.run.log_metrics(overall, step=len(report.counts))
