"""Calibrating the confidence of a trained model in a worker, on the validation split."""

import uuid
from dataclasses import dataclass, replace
from typing import Final

from cluster.storage.datasets import ShardedData
from cluster.storage.sharded_faces import read_faces, unlimited_canvas
from cluster.training.setup import Training
from cluster.workers.launch import run_on_workers
from cluster.workers.ray_context import RayContext
from stn_icnn.context import TrainContext
from stn_icnn.inference.calibration import calibrate
from stn_icnn.networks.checkpoint import Checkpoint, checkpoint_bytes, load_checkpoint
from stn_icnn.scoring.confusion import evaluation_batches

MOST_FACES: Final = 400
"""The most validation faces that scenes are made of; of a larger split they are chosen by the
seed."""


@dataclass(frozen=True)
class CalibrationTask:
    """A model whose confidence is to be calibrated."""

    model: bytes
    """The content of the model file; its finder is trained."""
    data: ShardedData


def calibrate_on_cluster(training: Training, checkpoint: Checkpoint) -> bytes:
    """Calibrates the model that a training leaves, on one of its workers.

    Args:
        training: the finished training.
        checkpoint: the model, whose finder is trained.

    Returns:
        The content of the calibrated model's file.

    Raises:
        PhaseFailedError: where the worker failed more often than allowed.
    """
    number = min(MOST_FACES, training.data.manifest.num_samples["val"])
    print(f"calibrating confidence on scenes of {number} validation faces", flush=True)
    result = run_on_workers(
        calibrate_on_worker,
        CalibrationTask(checkpoint_bytes(checkpoint), training.data),
        name=f"calibrate-{uuid.uuid4().hex[:8]}",
        storage=training.record.storage,
        allocation=replace(training.allocation, num_workers=1),
    )
    calibrated: bytes = result.return_value
    return calibrated


def calibrate_on_worker(task: CalibrationTask) -> bytes:
    """Calibrates a model in a worker, and returns the content of its file."""
    return calibrate_task(RayContext(), task)


def calibrate_task(context: TrainContext, task: CalibrationTask) -> bytes:
    """Calibrates a model, as `calibrate_on_worker` does, in any context of one process."""
    checkpoint = load_checkpoint(task.model)
    faces = read_faces(task.data, "val", unlimited_canvas(checkpoint.config), quiet=True)
    if len(faces) > MOST_FACES:
        faces.select(MOST_FACES, checkpoint.config.seed)
    batches = (batch for _, batch in evaluation_batches(faces, context))
    return checkpoint_bytes(calibrate(checkpoint, batches, context.device))
