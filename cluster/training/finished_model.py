"""The model that a finished training leaves: what is scored, registered and parsed with."""

from collections.abc import Mapping
from typing import Final

from cluster.training.calibration import calibrate_on_cluster
from cluster.training.setup import Training
from stn_icnn.networks.checkpoint import MODEL_FILE, load_checkpoint
from stn_icnn.training.phases import PHASES, PhaseName

CALIBRATED: Final = "calibrated"
"""The folder of the calibrated model in a training's storage."""


def finished_model(
    training: Training, phase: PhaseName, earlier: Mapping[str, float] | None = None
) -> bytes:
    """Returns the file of the model that a training leaves: of one that finds faces, calibrated.

    A phase that labels nothing, as `finder` does, measures no F1 of labels; the model then also has
    the metrics of the phase before, by which it is compared with other models.

    Args:
        training: the training, whose phases are finished.
        phase: the last of them.
        earlier: the metrics, on the same validation split, of the model that the phase started
            from, where that is of no phase of the training.

    Raises:
        PhaseFailedError: where the worker that calibrates failed more often than allowed.
    """
    model = training.record.model(phase)
    checkpoint = load_checkpoint(model)
    if not checkpoint.model.finds_faces:
        return model
    stored = training.record.storage.child(CALIBRATED)
    if not stored.exists(MODEL_FILE):
        metrics = _with_earlier(training, phase, checkpoint.metrics, earlier)
        stored.write(MODEL_FILE, calibrate_on_cluster(training, model, metrics))
    return stored.read(MODEL_FILE)


def _with_earlier(
    training: Training,
    phase: PhaseName,
    own: Mapping[str, float],
    earlier: Mapping[str, float] | None,
) -> Mapping[str, float]:
    """Returns a phase's metrics with those of the model that it started from, where it needs them.

    Those that both have are the earlier ones, but for the one that the phase is judged by.
    """
    row = PHASES[phase]
    if row.system is not None:
        return own
    if earlier is None:
        assert row.starts_from is not None
        earlier = load_checkpoint(training.record.model(row.starts_from)).metrics
    judged = {name: value for name, value in own.items() if name == row.selected_by.name}
    return {**own, **earlier, **judged}
