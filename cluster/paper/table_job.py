"""The job of Tables 2 and 3, which compares iCNN, STN-iCNN* and STN-iCNN over some seeds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.paper.config import TableConfig
from cluster.paper.training_experiment import (
    CountsByTraining,
    Variant,
    run_training_experiment,
)
from cluster.training.setup import Training
from stn_icnn.reporting.documents import Block
from stn_icnn.studies.experiment_result import ExperimentResult
from stn_icnn.studies.table_report import TableReport, write_table


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
    config, systems = settings.training, settings.systems

    def write_report(
        folder: Path, experiment: Training, counts: CountsByTraining, about: Sequence[Block]
    ) -> ExperimentResult:
        dataset = experiment.data.name
        title = f"{experiment.run.name}: the paper's systems on {dataset}"
        report = TableReport(title, dataset, systems, counts, config.model.label_set)
        write_table(folder, report, about)
        return report.result

    variants = {
        seed: Variant(f"seed-{seed}", f"seed {seed}", replace(config, seed=seed))
        for seed in range(config.seed, config.seed + settings.seeds)
    }
    return run_training_experiment("table", settings, preset, systems, variants, write_report)
