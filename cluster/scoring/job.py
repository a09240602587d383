"""Scores models on the cluster and reports it: for other jobs, and as a job of its own."""

import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cluster.config import ScoringJobConfig
from cluster.job_ending import print_ending, steps_with
from cluster.job_setup import allocate_job_workers, open_job
from cluster.run_notes import log_f1, log_machines, origin_sentence, result_note
from cluster.scoring.scenes import score_scenes_on_worker
from cluster.scoring.worker import ScoredSplit, ScoringTask, score_on_worker
from cluster.storage.datasets import ShardedData
from cluster.tracking.provenance import command_line, git_commit
from cluster.tracking.stored_models import FetchedModel
from cluster.tracking.tracker import Run, run_tags
from cluster.workers.allocation import WorkerAllocation
from cluster.workers.launch import run_on_workers
from stn_icnn.checks import require
from stn_icnn.reporting.f1_report import F1_NUMBERS, write_f1_report
from stn_icnn.reporting.run_report import write_run_report
from stn_icnn.reporting.run_results import (
    REPORT_FOLDER,
    DataSummary,
    RunResults,
    ScoringSummary,
    TrainingSummary,
)
from stn_icnn.reporting.tables import f1_headline, text_table
from stn_icnn.scoring.examples import ScoredFace
from stn_icnn.scoring.f1 import F1Rows
from stn_icnn.storage import StorageLocation
from stn_icnn.training.phases import system_of

EXAMPLES_PER_KIND = 3
"""Number of the best, of the median and of the worst faces that a report shows."""
LEAST_IMAGES_A_WORKER = 32
"""Images for which it is worth to start a worker, where the number of workers is `auto`."""


@dataclass(frozen=True)
class Scores:
    """The scores of a model on a split, with those of the systems that it is compared with."""

    results: RunResults
    """The results that the run keeps; the model that was scored comes first of the systems."""
    examples: Mapping[str, Sequence[ScoredFace]]
    """The model's best, median and worst faces."""
    failed: Mapping[str, str]
    """Why pictures and figures of the report could not be drawn, by name."""

    @property
    def systems(self) -> Mapping[str, F1Rows]:
        """F1 by system and row."""
        systems: Mapping[str, F1Rows] = self.results.f1["systems"]
        return systems

    @property
    def counts(self) -> Mapping[str, Tensor]:
        """Confusion counts of each image, by system, int64 `[M, C, C]`."""
        return self.results.counts

    @property
    def model(self) -> dict[str, float | None]:
        """The model's F1 by row."""
        return dict(next(iter(self.systems.values())))

    @property
    def overall(self) -> dict[str, float | None]:
        """The F1 of all inner classes together, by system."""
        return {name: rows["overall"] for name, rows in self.systems.items()}


def score_on_workers(
    task: ScoringTask, storage: StorageLocation, allocation: WorkerAllocation
) -> ScoredSplit:
    """Scores models, a coarse network alone and the mean label map on a split.

    Args:
        task: the models and the split; with the framing `found` one model, on scenes.
        storage: the storage of the Ray run.
        allocation: the workers.

    Raises:
        PhaseFailedError: where workers failed more often than allowed.
    """
    result = run_on_workers(
        score_on_worker if task.framing == "whole" else score_scenes_on_worker,
        task,
        name=f"evaluate-{uuid.uuid4().hex[:8]}",
        storage=storage,
        allocation=allocation,
    )
    scored: ScoredSplit = result.return_value
    return scored


def score_model(
    task: ScoringTask,
    run: Run,
    storage: StorageLocation,
    allocation: WorkerAllocation,
    training: TrainingSummary | None = None,
) -> Scores:
    """Scores a model, its coarse network and the training faces' mean label map on a split.

    Prints the table, and logs the report and the model's F1 to MLflow.

    Args:
        task: the model, those that it is compared with, and the split.
        run: the run that the report and the metrics are logged to.
        storage: the storage of the Ray run.
        allocation: the workers.
        training: the training that the report tells of; None: the run has trained nothing.

    Raises:
        PhaseFailedError: where workers failed more often than allowed.
    """
    task = replace(task, examples_per_kind=EXAMPLES_PER_KIND)
    data, split = task.data, task.split
    print(f"scoring {data.manifest.num_samples[split]} images ({split})", flush=True)
    scored = score_on_workers(task, storage, allocation)
    summary = ScoringSummary(machine=scored.computed_on, minutes=scored.seconds / 60)
    with tempfile.TemporaryDirectory(prefix="stn-icnn-report-") as folder:
        results, failed = _write_report(Path(folder), task, scored, run, training, summary)
        run.log_artifacts(folder, REPORT_FOLDER)
    for name, reason in failed.items():
        print(f"{name} could not be drawn: {reason}", flush=True)
    scores = Scores(results, scored.examples, failed)
    log_f1(run, split, scores.model, scored.label_set)
    facts = {f"{split}/images": len(scored.keys), f"{split}/minutes": summary.minutes}
    run.log_metrics(facts, step=0)
    print(text_table(scores.systems, scored.label_set), flush=True)
    return scores


def _write_report(
    folder: Path,
    task: ScoringTask,
    scored: ScoredSplit,
    run: Run,
    training: TrainingSummary | None,
    summary: ScoringSummary,
) -> tuple[RunResults, dict[str, str]]:
    """Writes the report of a split and what the run keeps.

    Returns:
        What the run keeps, and why pictures and figures could not be drawn, by name.
    """
    data, manifest = task.data, task.data.manifest
    title = f"{run.name} on the {task.split} split of {task.dataset}"
    report = write_f1_report(
        folder,
        systems=scored.counts,
        keys=scored.keys,
        dataset=task.dataset,
        title=title,
        metadata={"split": task.split, "data_fingerprint": manifest.fingerprint},
        examples=scored.examples,
        label_set=scored.label_set,
    )
    results = RunResults(
        title=title,
        run_name=run.name,
        run_id=run.run_id,
        command=command_line(),
        commit=git_commit(),
        data=DataSummary(
            name=task.dataset,
            location=data.location.url,
            fingerprint=manifest.fingerprint,
            num_images=manifest.num_samples,
            split=task.split,
        ),
        training=training,
        scoring=summary,
        f1={name: report[name] for name in F1_NUMBERS},
        keys=scored.keys,
        counts=scored.counts,
        faces=scored.faces,
        label_set=scored.label_set,
    )
    results.write(folder)
    undrawn = write_run_report(folder, results, scored.examples)
    return results, {**report.get("failed", {}), **undrawn}


def run_evaluation(job: ScoringJobConfig) -> dict[str, Any]:
    """Scores a model on a split, as a run of its own, and reports it.

    Returns:
        The job's last line: `run_id`, `model`, the split's F1 rows under its name, `systems`.

    Raises:
        ValueError: for a model, data or resources that can't be used, before any work.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where workers failed more often than allowed.
    """
    default_name = "evaluate" if job.framing == "whole" else f"evaluate-{job.framing}"
    environment = open_job(job.locations, None, job.run_name or default_name)
    data = ShardedData.open(
        job.data, verify_shards=job.locations.verify_shards, reading=job.reading
    )
    data.shards(job.split)
    model = FetchedModel.fetch_usable(job.model, environment.tracker.uri, "scoring")
    if job.framing == "found":
        wanted = f"whole for {job.model}, which has no finder (jobs/finder.py trains one)"
        require(model.checkpoint.model.finds_faces, "framing", wanted, job.framing)
    most_workers = max(1, data.manifest.num_samples[job.split] // LEAST_IMAGES_A_WORKER)
    allocation = allocate_job_workers(environment, data, job.scaling, most_workers)
    tags = {**run_tags(data.manifest.fingerprint, None), "model": job.model, "split": job.split}
    if job.precision is not None:
        tags["precision"] = job.precision
    if job.framing != "whole":
        tags["framing"] = job.framing
    run = environment.tracker.start_or_resume_run(
        environment.run_name, tags=tags, params={"data": data.name}
    )
    run.log_data(data, [job.split])
    system = system_of(model.checkpoint.phase)
    with run.finishing():
        task = ScoringTask(
            {system: model.content}, data, job.split, job.precision, framing=job.framing
        )
        scores = score_model(task, run, environment.storage, allocation)
        label_set = scores.results.label_set
        headline = f1_headline(system, scores.model, job.split, task.dataset, label_set)
        steps = steps_with(run, job.model)
        scoring = scores.results.scoring
        assert scoring is not None  # it was just done
        num_images, machines = data.manifest.num_samples[job.split], [scoring.machine]
        log_machines(run, machines)
        origin = origin_sentence(f"`{job.model}`, scored", num_images, scoring.minutes, machines)
        run.describe(result_note(headline, origin, steps))
    print_ending(run, headline, steps)
    return run.last_line(
        {
            "model": job.model,
            "data_fingerprint": data.manifest.fingerprint,
            job.split: scores.model,
            "systems": scores.overall,
            **({"failed": scores.failed} if scores.failed else {}),
        }
    )
