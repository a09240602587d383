"""The training job: trains the phases, scores the model and registers it, tracked in MLflow."""

from collections.abc import Mapping
from typing import Any

from cluster.config import TrainingJobConfig
from cluster.job_ending import REPORTS, print_ending, steps_with
from cluster.job_setup import open_job
from cluster.run_notes import (
    VAL_F1,
    log_machines,
    origin_sentence,
    result_note,
    unfinished_note,
)
from cluster.scoring.job import Scores, score_model
from cluster.scoring.worker import MODEL, ScoringTask
from cluster.tracking.mlflow_model import MODEL_ARTIFACT, log_mlflow_model
from cluster.tracking.model_card import model_card
from cluster.tracking.provenance import git_commit
from cluster.training.base_settings import preset_in_words
from cluster.training.finished_model import finished_model
from cluster.training.phase_training import log_config, train_phase
from cluster.training.setup import Training, open_training
from cluster.training.summary import summarise_training
from stn_icnn.networks.checkpoint import Checkpoint, load_checkpoint
from stn_icnn.reporting.run_results import TrainingSummary
from stn_icnn.reporting.tables import f1_headline
from stn_icnn.training.phases import FACES_FOUND, phases_of_model


def run_end_to_end(settings: TrainingJobConfig, preset: str) -> dict[str, Any]:
    """Trains the phases of a whole model, scores it on the test split, and registers it.

    Args:
        settings: the job's settings.
        preset: the name of what they started from, for the record.

    Returns:
        The job's last line: `run_id`, `run_name`, `model`, `test` (F1 rows), `systems`, …

    Raises:
        ValueError: for settings, data or resources that cannot be used, before any training.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where a loss is not finite any more, or workers failed too often.
    """
    environment = open_job(settings.locations, settings.run_name, preset)
    training = open_training(settings, preset, environment)
    with training.run.finishing():
        log_config(training.run, training.config)
        phases = phases_of_model(training.config.model)
        training.expect(phases)
        training.expect_scoring()
        training.run.describe(unfinished_note(training.run.name))
        for phase in phases:
            train_phase(training, phase)
        model = finished_model(training, phases[-1])
        summary = summarise_training(training)
        scores = score_finished(training, model, summary)
        result = register_result(training, model, preset, scores, summary)
    end_training(training, scores, result)
    return training.run.last_line(result)


def score_finished(
    training: Training,
    model: bytes,
    summary: TrainingSummary,
    system: str = MODEL,
    others: Mapping[str, bytes] | None = None,
) -> Scores:
    """Scores the model that a training has left on the test split.

    Args:
        training: the training, whose run gets the report.
        model: the content of the model file.
        summary: the training as the report tells it.
        system: the model's name in the report.
        others: model files that it is compared with, by their names.
    """
    models = {system: model, **(others or {})}
    task = ScoringTask(models, training.data, "test")
    return score_model(task, training.run, training.record.storage, training.allocation, summary)


def end_training(
    training: Training,
    scores: Scores,
    result: Mapping[str, Any],
    reports: Mapping[str, str] = REPORTS,
) -> None:
    """Prints the end of a job for people: the model's F1 on the test split, what to do with it.

    Args:
        training: the finished training.
        scores: the scores on the test split, the model's first.
        result: the job's last line.
        reports: the reports among the run's artifacts, by what to call them.
    """
    headline, steps = _headline(training, scores), steps_with(training.run, result["model"])
    print_ending(training.run, headline, steps, reports)


def register_result(
    training: Training,
    model: bytes,
    preset: str,
    scores: Scores,
    summary: TrainingSummary,
    parent: Mapping[str, str | None] | None = None,
    done: str = "Trained",
) -> dict[str, Any]:
    """Logs and registers the model that a training has left.

    Args:
        training: the finished training.
        model: the content of the model file.
        preset: the name of what its settings started from.
        scores: the scores on the test split, the model's first.
        summary: the training as its report tells it.
        parent: the tags that name the model that it started from.
        done: what was done on the images, for the run's description.

    Returns:
        The result, for the job's last line.
    """
    run, data, checkpoint = training.run, training.data, load_checkpoint(model)
    val = checkpoint.metrics
    run.log_metrics(val, step=0)
    log_mlflow_model(run, model)
    name = f"stn-icnn-{data.name}"
    version = run.register_model(
        name,
        MODEL_ARTIFACT,
        card=_card(training, name, preset, checkpoint, scores, parent),
        metrics=val,
        data_fingerprint=data.manifest.fingerprint,
        tags={"preset": preset, **(parent or {})},
    )
    address = f"models:/{name}/{version}" if version else None
    minutes, machines = summary.total_minutes, summary.all_machines
    log_machines(run, machines, minutes)
    origin = origin_sentence(done, training.num_images, minutes, machines)
    steps = steps_with(run, address or f"runs:/{run.run_id}/{MODEL_ARTIFACT}")
    run.describe(result_note(_headline(training, scores), origin, steps))
    faces_f1 = val.get(FACES_FOUND.name)
    return {
        "model": address,
        "storage": training.record.storage.url,
        "data_fingerprint": data.manifest.fingerprint,
        "test": scores.model,
        "systems": scores.overall,
        **({} if faces_f1 is None else {"faces_f1": faces_f1}),
    }


def _headline(training: Training, scores: Scores) -> str:
    """Returns a line with the F1 of a training's model on the test split."""
    system, f1 = next(iter(scores.systems.items()))
    label_set = training.config.model.label_set
    return f1_headline(system, f1, "test", training.data.name, label_set)


def _card(
    training: Training,
    name: str,
    preset: str,
    checkpoint: Checkpoint,
    scores: Scores,
    parent: Mapping[str, str | None] | None,
) -> str:
    """Returns the card of a registered model."""
    val = checkpoint.metrics
    return model_card(
        name=name,
        dataset=training.data.name,
        data_fingerprint=training.data.manifest.fingerprint,
        num_images=training.num_images,
        started_from=training.base.name if parent else preset_in_words(preset),
        config=training.config,
        tracking_uri=training.run.tracker.uri,
        val_f1={k.removeprefix(VAL_F1): v for k, v in val.items() if k.startswith(VAL_F1)},
        test_f1=scores.model,
        finds_faces=checkpoint.model.finds_faces,
        faces_f1=val.get(FACES_FOUND.name),
        run_id=training.run.run_id,
        commit=git_commit(),
        parent="{parent_model}, trained on {parent_dataset}".format(**parent) if parent else None,
    )
