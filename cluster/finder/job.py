"""The finder's job: a finished model is given a finder, and its other networks stay as they are."""

from typing import Any, Final

from cluster.finder.config import FinderJobConfig, require_own_networks
from cluster.job_setup import open_job
from cluster.run_notes import unfinished_note
from cluster.training.base_settings import BaseSettings
from cluster.training.finished_model import finished_model
from cluster.training.job import end_training, register_result, score_finished
from cluster.training.parent import Parent
from cluster.training.phase_training import log_config, train_phase
from cluster.training.setup import open_training
from cluster.training.summary import FINDER, summarise_training
from stn_icnn.checks import require
from stn_icnn.training.phases import PhaseName

PHASE: Final[PhaseName] = "finder"


def run_finder(settings: FinderJobConfig, parent: Parent) -> dict[str, Any]:
    """Trains a finder for a model, scores both on the test split and registers them as one model.

    The labels of a photograph that is taken whole for a face are those of the model as it was.

    Args:
        settings: the job's settings.
        parent: the model to be given a finder; one that it has is trained further.

    Returns:
        The job's last line: `run_id`, `run_name`, `model`, `parent`, `test` (F1 rows), `faces_f1`
        (of faces found in scenes of the validation split), …

    Raises:
        ValueError: for a model, settings, data or resources that can't be used, before any
            training.
        TrackingUnavailableError: where the tracking server is away at the start.
        PhaseFailedError: where the loss is not finite any more, or workers failed too often.
    """
    require(settings.data is not None, "--data", "the shards whose faces are to be found", None)
    require_own_networks(settings.training.model, parent.checkpoint.config.model)
    environment = open_job(settings.locations, settings.run_name, FINDER)
    training = open_training(
        settings,
        FINDER,
        environment,
        parent_sha256=parent.sha256,
        base=BaseSettings.of_model(parent.given, parent.checkpoint.config),
        kind=FINDER,
        tags={"system": FINDER, **parent.tags},
    )
    framed_as = parent.checkpoint.data.dataset
    if framed_as != training.data.name:
        print(
            f"{parent.given} was trained on {framed_as}: its finder will frame faces as those of "
            f"{training.data.name} are",
            flush=True,
        )
    with training.run.finishing():
        log_config(training.run, training.config)
        training.run.describe(unfinished_note(training.run.name))
        training.expect_scoring()
        train_phase(training, PHASE, parent.start(training.config))
        model = finished_model(training, PHASE, parent.checkpoint)
        summary = summarise_training(training)
        scores = score_finished(training, model, summary)
        done = f"A finder for `{parent.given}`, trained"
        result = register_result(training, model, FINDER, scores, summary, parent.tags, done)
    end_training(training, scores, result)
    return training.run.last_line({**result, "parent": parent.given})
