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

    A phase that labels nothing, as `finder` does, measures no F1 of labels; the model then has
    those of the phase before as well, by which it is compared with other models.

    Args:
        training: the training, whose phases are finished.
        phase: the last of them.
        earlier: the validation metrics of the model that the phase started from, where that is of
            no phase of the training.
    """
    model = training.record.model(phase)
    if PHASES[phase].system is not None:
        return model
    if earlier is None:
        before = PHASES[phase].starts_from
        assert before is not None
        earlier = load_checkpoint(training.record.model(before)).metrics
    checkpoint = load_checkpoint(model)
    file = io.BytesIO()
    save_checkpoint(file, replace(checkpoint, metrics={**checkpoint.metrics, **earlier}))
    return file.getvalue()
