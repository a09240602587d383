"""Scores models on the cluster and reports it: for other jobs, and as a job of its own."""

import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cluster.config import ScoringJobConfig
from cluster.job_setup import allocate_job_workers, open_job
from cluster.scoring.worker import MODEL, ScoredSplit, ScoringTask, score_on_worker
from cluster.storage.datasets import ShardedData
from cluster.tracking.stored_models import FetchedModel
from cluster.tracking.tracker import Run, run_tags
from cluster.workers.allocation import WorkerAllocation
from cluster.workers.launch import run_on_workers
from stn_icnn.config import Precision
from stn_icnn.reporting.f1_report import write_f1_report
from stn_icnn.reporting.tables import text_table
from stn_icnn.scoring.f1 import F1Rows
from stn_icnn.storage import StorageLocation
from stn_icnn.training.phases import system_of

REPORT = "report"
"""The folder of the report among the run's artifacts."""
EXAMPLES_PER_KIND = 3
"""Number of the best, of the median and of the worst faces that a report shows."""
LEAST_IMAGES_A_WORKER = 32
"""Images for which it is worth to start a worker, where the number of workers is `auto`."""


@dataclass(frozen=True)
class Scores:
    """The scores of a model on a split, with those of the systems that it is compared with."""

    systems: Mapping[str, F1Rows]
    """F1 by system and row; the model that was scored comes first."""
    counts: Mapping[str, Tensor]
    """Confusion counts of each image, by system, int64 `[M, C, C]`."""

    @property
    def model(self) -> dict[str, float | None]:
        """The model's F1 by row."""
        return dict(next(iter(self.systems.values())))

    @property
    def overall(self) -> dict[str, float | None]:
        """The F1 of all inner classes together, by system."""
        return {name: rows["overall"] for name, rows in self.systems.items()}


def score_on_workers(
    models: Mapping[str, bytes],
    data: ShardedData,
    split: str,
    *,
    storage: StorageLocation,
    allocation: WorkerAllocation,
    max_failures: int,
    precision: Precision | None = None,
    coarse: bytes | None = None,
    examples_per_kind: int = 0,
) -> ScoredSplit:
    """Scores models, a coarse network alone and the mean label map on a split.

    Args:
        models: contents of the model files, by the names of the systems.
        data: the data set.
        split: the split that is scored.
        storage: the storage of the Ray run.
        allocation: the workers.
        max_failures: number of restarts after a worker's death.
        precision: arithmetic to label in; None: each model's own setting.
        coarse: content of the model file whose coarse network is scored; None: the first model's.
        examples_per_kind: number of the first model's best, median and worst faces to return.

    Raises:
        PhaseFailedError: where workers failed more often than allowed.
    """
    shards, train_shards = data.shards(split), data.shards_or_none("train")
    label_set = data.manifest.label_set
    task = ScoringTask(
        models, shards, train_shards, label_set, precision, coarse, examples_per_kind
    )
    result = run_on_workers(
        score_on_worker,
        task,
        name=f"evaluate-{uuid.uuid4().hex[:8]}",
        storage=storage,
        allocation=allocation,
        max_failures=max_failures,
    )
    scored: ScoredSplit = result.return_value
    return scored


def score_model(
    model: bytes,
    data: ShardedData,
    split: str,
    *,
    run: Run,
    storage: StorageLocation,
    allocation: WorkerAllocation,
    max_failures: int,
    precision: Precision | None = None,
    system: str = MODEL,
    others: Mapping[str, bytes] | None = None,
) -> Scores:
    """Scores a model, its coarse network and the training faces' mean label map on a split.

    Prints the table, and logs the report and the model's F1 to MLflow.

    Args:
        model: content of the model file.
        data: the data set.
        split: the split that is scored.
        run: the run that the report and the metrics are logged to.
        storage: the storage of the Ray run.
        allocation: the workers.
        max_failures: number of restarts after a worker's death.
        precision: arithmetic to score in; None: the model's own setting.
        system: the model's name in the report.
        others: contents of the model files that it is compared with, by the names of the systems.

    Raises:
        PhaseFailedError: where workers failed more often than allowed.
    """
    scored = score_on_workers(
        {system: model, **(others or {})},
        data,
        split,
        storage=storage,
        allocation=allocation,
        max_failures=max_failures,
        precision=precision,
        examples_per_kind=EXAMPLES_PER_KIND,
    )
    scores = Scores(_report(scored, data, split, run), scored.counts)
    run.log_metrics({f"{split}/f1_{row}": f1 for row, f1 in scores.model.items()}, step=0)
    print(text_table(scores.systems, data.manifest.label_set), flush=True)
    return scores


def _report(scored: ScoredSplit, data: ShardedData, split: str, run: Run) -> dict[str, F1Rows]:
    """Writes the report of a split, logs it to MLflow, and returns F1 by system and row."""
    with tempfile.TemporaryDirectory(prefix="stn-icnn-report-") as folder:
        report = write_f1_report(
            Path(folder),
            systems=scored.counts,
            keys=scored.keys,
            dataset=data.name,
            title=f"{run.name} on the {split} split of {data.name}",
            metadata={"split": split, "data_fingerprint": data.manifest.fingerprint},
            examples=scored.examples,
            label_set=data.manifest.label_set,
        )
        run.log_artifacts(folder, REPORT)
    systems: dict[str, F1Rows] = report["systems"]
    return systems


def run_evaluation(job: ScoringJobConfig) -> dict[str, Any]:
    """Scores a model on a split, as a run of its own, and reports it.

    Returns:
        The job's last line: `run_id`, `model`, the split's F1 rows under its name, `systems`.

    Raises:
        ValueError: for a model, data or resources that can't be used, before any work.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where workers failed more often than allowed.
    """
    environment = open_job(job.locations, None, job.run_name or "evaluate")
    data = ShardedData.open(job.data)
    data.shards(job.split)
    model = FetchedModel.fetch(job.model, environment.tracker.uri)
    most_workers = max(1, data.manifest.num_samples[job.split] // LEAST_IMAGES_A_WORKER)
    allocation = allocate_job_workers(environment, data, job.scaling, most_workers)
    tags = {**run_tags(data.manifest.fingerprint, None), "model": job.model, "split": job.split}
    if job.precision is not None:
        tags["precision"] = job.precision
    run = environment.tracker.start_or_resume_run(environment.run_name, tags=tags)
    with run.finishing():
        scores = score_model(
            model.content,
            data,
            job.split,
            run=run,
            storage=environment.storage,
            allocation=allocation,
            max_failures=job.scaling.max_failures,
            precision=job.precision,
            system=system_of(model.checkpoint.phase),
        )
    return environment.tracker.last_line(
        {
            "run_id": run.run_id,
            "run_name": environment.run_name,
            "model": job.model,
            "data_fingerprint": data.manifest.fingerprint,
            job.split: scores.model,
            "systems": scores.overall,
        }
    )
