"""The hybrid job: a model of one data set fine-tuned on some images of another (paper, 3.1)."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from cluster.hybrid.config import HybridJobConfig
from cluster.hybrid.report import (
    HYBRID,
    PARENT,
    SCRATCH,
    HybridReport,
    curves_of,
    write_hybrid_report,
)
from cluster.hybrid.scratch import open_scratch, require_same_scratch_settings
from cluster.job_ending import REPORT
from cluster.job_setup import open_job
from cluster.run_notes import log_f1, log_machines, unfinished_note
from cluster.scoring.job import Scores
from cluster.tracking.result_files import EXPERIMENT_REPORT, closing_blocks, publishing
from cluster.training.base_settings import BaseSettings
from cluster.training.finished_model import finished_model
from cluster.training.job import end_training, register_result, score_finished
from cluster.training.parent import NETWORKS, Parent
from cluster.training.phase_training import log_config, train_phase
from cluster.training.setup import Training, open_training
from cluster.training.summary import summarise_training
from cluster.training.worker import Start
from stn_icnn.checks import require
from stn_icnn.reporting.gallery import Gallery
from stn_icnn.reporting.run_results import TrainingSummary
from stn_icnn.training.phases import MODEL_PHASES, PhaseName

PHASE: PhaseName = "end_to_end"


def run_hybrid(settings: HybridJobConfig, parent: Parent) -> dict[str, Any]:
    """Fine-tunes a model, compares it if asked to, scores it on the test split and registers it.

    Args:
        settings: the job's settings.
        parent: the model to fine-tune.

    Returns:
        The job's last line: `run_id`, `run_name`, `model`, `parent`, `num_images`, `test` (F1
        rows), `systems` (overall F1) and `seconds` of training by system, …

    Raises:
        ValueError: for a model, settings, data or resources that can't be used, before any
            training.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where a loss is not finite any more, or workers failed too often.
    """
    require(settings.data is not None, "--data", "the shards to fine-tune on", None)
    parent.require_fit(settings.training)
    environment = open_job(settings.locations, settings.run_name, HYBRID)
    if settings.compare:
        require_same_scratch_settings(environment.run_storage, settings.scratch_training)
    training = open_training(
        settings,
        HYBRID,
        environment,
        num_images=settings.num_images,
        parent_sha256=parent.sha256,
        base=BaseSettings.of_model(parent.given, parent.checkpoint.config),
        tags={"system": HYBRID, **parent.tags},
    )
    with ExitStack() as runs:
        runs.enter_context(training.run.finishing())
        log_config(training.run, training.config)
        training.run.describe(unfinished_note(training.run.name))
        training.expect_scoring(num_models=3 if settings.compare else 2)  # its parent is one
        scratch = None
        if settings.compare:
            scratch = open_scratch(training, settings.scratch_training, {"system": SCRATCH})
            training.progress.expect_as_long(scratch.run.name, training.run.name)
            runs.enter_context(scratch.run.finishing())
        _train(training, parent)
        others = {}
        if scratch is not None:
            *_, last = curves_of(training, _phases(training, parent))
            others[SCRATCH] = scratch.train(last.seconds)
        scores, result = _conclude(training, others, parent)
    end_training(training, scores, result, {"report": REPORT, "comparison": EXPERIMENT_REPORT})
    return training.run.last_line(result)


def _phases(training: Training, parent: Parent) -> list[PhaseName]:
    """Returns the phases of a fine-tuning: first those of networks that the parent lacks.

    A network that labels or finds other classes than the parent's begins afresh, and is trained
    alone before all are trained together.
    """
    shared = parent.shared(training.config)
    alone: tuple[PhaseName, ...] = ("coarse", "localizer")
    return [*(phase for phase in alone if phase not in shared), PHASE]


def _train(training: Training, parent: Parent) -> None:
    """Trains the phases of a fine-tuning."""
    start = parent.start(training.config)
    for phase in _phases(training, parent):
        train_phase(training, phase, start)
        start = Start(training.record.model(phase), NETWORKS)


def _conclude(
    training: Training, others: Mapping[str, Training], parent: Parent
) -> tuple[Scores, dict[str, Any]]:
    """Scores, reports and registers the fine-tuned model.

    Args:
        training: the finished fine-tuning.
        others: the trainings that it is compared with, by system.
        parent: the model that was fine-tuned.

    Returns:
        The scores, and the result for the job's last line.
    """
    model, summary = finished_model(training, PHASE), summarise_training(training)
    scores = _score(training, model, others, parent, summary)
    report = HybridReport(
        title=f"{training.run.name}: {training.num_images} images of {training.data.name}",
        dataset=training.data.name,
        parent=parent.tags,
        num_images=training.num_images,
        num_split=training.data.manifest.num_samples["train"],
        curves={
            HYBRID: curves_of(training, _phases(training, parent)),
            **{name: curves_of(other, MODEL_PHASES) for name, other in others.items()},
        },
        counts=scores.counts,
        label_set=training.config.model.label_set,
        about=[
            Gallery.of(scores.results, scores.examples, f"Faces that {HYBRID} labels"),
            *closing_blocks(training.run, summary.compared),
        ],
    )
    with publishing(training.run, training.record.storage) as folder:
        write_hybrid_report(folder, report)
    seconds = {f"seconds/{system}": value for system, value in report.seconds.items()}
    training.run.log_metrics(seconds, step=0)
    return scores, {
        **register_result(training, model, HYBRID, scores, summary, parent.tags),
        "parent": parent.given,
        "num_images": training.num_images,
        "seconds": {system: round(value, 1) for system, value in report.seconds.items()},
    }


def _score(
    training: Training,
    model: bytes,
    others: Mapping[str, Training],
    parent: Parent,
    summary: TrainingSummary,
) -> Scores:
    """Scores the fine-tuned model, the ones it is compared with, and the one it comes from."""
    models = {name: other.record.model(PHASE) for name, other in others.items()}
    compared = dict(models)
    theirs = parent.checkpoint.model.label_set.class_names
    if training.config.model.label_set.class_names[: len(theirs)] == theirs:
        compared[PARENT] = parent.content  # whose ids mean the same
    scores = score_finished(training, model, summary, HYBRID, compared)
    for name, other in others.items():
        rows, of_other = scores.systems[name], summarise_training(other)
        log_f1(other.run, "test", rows, other.config.model.label_set)
        other.run.log_metrics({"test/images": len(scores.results.keys)}, step=0)
        log_machines(other.run, of_other.all_machines, of_other.total_minutes)
    return scores
