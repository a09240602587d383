"""The model that a finished training leaves: what is scored, registered and parsed with."""

from dataclasses import replace
from typing import Final

from cluster.training.calibration import calibrate_on_cluster
from cluster.training.setup import Training
from stn_icnn.networks.checkpoint import MODEL_FILE, Checkpoint, load_checkpoint
from stn_icnn.training.phases import PHASES, PhaseName

CALIBRATED: Final = "calibrated"
"""The folder of the calibrated model in a training's storage."""


def finished_model(training: Training, phase: PhaseName, parent: Checkpoint | None = None) -> bytes:
    """Returns the file of the model that a training leaves: of one that finds faces, calibrated.

    A phase that labels nothing, as `finder` does, measures no F1 of labels; the model then also has
    the metrics of the phase before, by which it is compared with other models.

    Args:
        training: the training, whose phases are finished.
        phase: the last of them.
        parent: the model that the finder was trained for, where no phase of the training made it.

    Raises:
        PhaseFailedError: where the worker that calibrates failed more often than allowed.
    """
    model = training.record.model(phase)
    checkpoint = load_checkpoint(model)
    if not checkpoint.model.finds_faces:
        return model
    stored = training.record.storage.child(CALIBRATED)
    if not stored.exists(MODEL_FILE):
        if PHASES[phase].system is None:
            checkpoint = _with_labellers(training, phase, checkpoint, parent)
        stored.write(MODEL_FILE, calibrate_on_cluster(training, checkpoint))
    return stored.read(MODEL_FILE)


def _with_labellers(
    training: Training, phase: PhaseName, checkpoint: Checkpoint, parent: Checkpoint | None
) -> Checkpoint:
    """Adds what is known of the networks that label, which a phase has left as they were.

    That is their metrics on the training's validation split, if they were measured on it, and the
    data that they were trained on, whose scale they need.
    """
    row = PHASES[phase]
    if parent is None:
        assert row.starts_from is not None
        parent = load_checkpoint(training.record.model(row.starts_from))
    own = checkpoint.metrics
    same_data = parent.data.fingerprint == training.data.manifest.fingerprint
    judged = {name: value for name, value in own.items() if name == row.selected_by.name}
    metrics = {**own, **(parent.metrics if same_data else {}), **judged}
    return replace(checkpoint, data=parent.data, metrics=metrics)
