"""The model that a finished training leaves: what is scored, registered and parsed with."""

import io
from collections.abc import Mapping
from dataclasses import replace

from cluster.training.setup import Training
from stn_icnn.networks.checkpoint import load_checkpoint, save_checkpoint
from stn_icnn.training.phases import PHASES, PhaseName


def finished_model(
    training: Training, phase: PhaseName, earlier: Mapping[str, float] | None = None
) -> bytes:
    """Returns the file of the model that a training leaves.

    A phase that labels nothing, as `finder` does, measures no F1 of labels; the model then also has
    the metrics of the phase before, by which it is compared with other models.

    Args:
        training: the training, whose phases are finished.
        phase: the last of them.
        earlier: the metrics, on the same validation split, of the model that the phase started
            from, where that is of no phase of the training.
    """
    model, row = training.record.model(phase), PHASES[phase]
    if row.system is not None:
        return model
    if earlier is None:
        assert row.starts_from is not None
        earlier = load_checkpoint(training.record.model(row.starts_from)).metrics
    checkpoint = load_checkpoint(model)
    own = checkpoint.metrics
    judged = {name: value for name, value in own.items() if name == row.selected_by.name}
    metrics = {**own, **earlier, **judged}
    file = io.BytesIO()
    save_checkpoint(file, replace(checkpoint, metrics=metrics))
    return file.getvalue()
