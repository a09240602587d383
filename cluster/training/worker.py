"""The functions that train a phase in a Ray Train worker, each of a task that can be pickled."""

from dataclasses import dataclass

from cluster.storage.datasets import ShardedData
from cluster.storage.sharded_faces import read_faces, read_train_faces
from cluster.workers.ray_context import RayContext
from stn_icnn.config import TrainConfig
from stn_icnn.context import TrainContext
from stn_icnn.networks.checkpoint import load_checkpoint
from stn_icnn.networks.model import STNiCNN
from stn_icnn.training.initialization import initialize_model
from stn_icnn.training.loop import DivergedError, Log, PhaseRun, run_phase
from stn_icnn.training.phases import PHASES, PhaseName


@dataclass(frozen=True)
class Start:
    """The model that a phase goes on from."""

    model: bytes
    """The content of the model file."""
    networks: tuple[str, ...]
    """Names of the networks that are taken from it; the others are freshly initialized."""


@dataclass(frozen=True)
class TrainTask:
    """One phase to train."""

    phase: PhaseName
    config: TrainConfig
    data: ShardedData
    start: Start | None
    """The model that it goes on from; None: all networks are freshly initialized."""
    loader_processes: int
    """Processes that decode images for each worker."""
    num_images: int | None = None
    """How many images of the training split it is trained on, chosen by the seed; None: all."""
    num_pictured: int = 0
    """The number of validation faces of which pictures are reported."""


def train_on_worker(task: TrainTask) -> str | None:
    """Trains a phase in a Ray Train worker; see `train_task`."""
    return train_task(RayContext(), task)


def train_task(context: TrainContext, task: TrainTask, log: Log = print) -> str | None:
    """Trains a phase.

    Args:
        context: where it is trained.
        task: the phase and its data.
        log: takes the lines that say how far an epoch is.

    Returns:
        None; or, where the loss diverged, the reason: raising would make Ray try again what must
        fail again.
    """
    run, model = open_phase(context, task, log)
    try:
        run_phase(run, model)
    except DivergedError as error:
        return str(error)
    return None


def open_phase(context: TrainContext, task: TrainTask, log: Log) -> tuple[PhaseRun, STNiCNN]:
    """Opens a phase's faces and returns the run with the model that it starts from.

    The arguments are those of `train_task`.
    """
    phase = PHASES[task.phase]
    config = phase.settings(task.config)
    start = task.start
    checkpoint = load_checkpoint(start.model) if start else None
    model = initialize_model(checkpoint, config, start.networks if start else None)
    train_faces = read_train_faces(
        task.data,
        config,
        context,
        num_images=task.num_images,
        augmented=True,
        with_labels=phase.needs_labels,
    )
    val_faces = read_faces(
        task.data, "val", config, with_labels=phase.needs_labels, quiet=context.rank > 0
    )
    run = PhaseRun(
        phase=phase,
        config=config,
        train_faces=train_faces,
        val_faces=val_faces,
        data=task.data.facts,
        context=context,
        log=log,
        loader_processes=task.loader_processes,
        num_pictured=task.num_pictured,
    )
    return run, model
