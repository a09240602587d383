"""What runs in a Ray Train worker: importable functions of a plain task."""

from dataclasses import dataclass
from functools import partial

from cluster.storage.shard_cache import DatasetShard
from cluster.storage.sharded_faces import read_faces
from cluster.workers.ray_context import RayContext
from stn_icnn.config import TrainConfig
from stn_icnn.context import TrainContext
from stn_icnn.labels import LabelSet
from stn_icnn.networks.checkpoint import DataFacts, load_checkpoint
from stn_icnn.networks.model import STNiCNN
from stn_icnn.training.initialization import initialize_model
from stn_icnn.training.loop import DivergedError, Log, PhaseRun, run_phase
from stn_icnn.training.phases import PHASES, PhaseName


@dataclass(frozen=True)
class Start:
    """What a phase goes on from."""

    model: bytes
    """A model file's content."""
    networks: tuple[str, ...]
    """Those of its networks that are taken up; the others begin afresh."""


@dataclass(frozen=True)
class TrainTask:
    """One phase, to be trained."""

    phase: PhaseName
    config: TrainConfig
    data: DataFacts
    train_shards: tuple[DatasetShard, ...]
    val_shards: tuple[DatasetShard, ...]
    label_set: LabelSet
    """Classes and parts of the faces in the shards, as their manifest names them."""
    start: Start | None
    """None: all networks begin afresh."""
    loader_processes: int
    num_images: int | None = None
    """Of `train_shards`, that the seed chooses; None: all."""


def train(task: TrainTask) -> str | None:
    """`train_in` a Ray Train worker."""
    return train_in(RayContext(), task)


def train_in(context: TrainContext, task: TrainTask, log: Log = print) -> str | None:
    """Trains a phase.

    Args:
        context: where it is trained.
        task: the phase and its data.
        log: takes the lines that say how far an epoch is.

    Returns:
        Why it can't be trained, where the loss diverged: raising would make Ray try again what
        must fail again.
    """
    run, model = open_phase(context, task, log)
    try:
        run_phase(run, model)
    except DivergedError as error:
        return str(error)
    return None


def open_phase(context: TrainContext, task: TrainTask, log: Log) -> tuple[PhaseRun, STNiCNN]:
    """A phase with its faces at hand, and the model that it starts from; see `train_in`."""
    quiet = context.rank > 0
    phase = PHASES[task.phase]
    config = phase.settings(task.config)
    start = task.start
    if start is None:
        model = initialize_model(None, config)
    else:
        model = initialize_model(load_checkpoint(start.model), config, start.networks)
    read = partial(
        read_faces,
        label_set=task.label_set,
        config=config,
        with_labels=phase.needs_labels,
        quiet=quiet,
    )
    train_faces = read(task.train_shards, augmented=True)
    if task.num_images is not None:
        train_faces.select(task.num_images, config.seed)
    run = PhaseRun(
        phase=phase,
        config=config,
        train_faces=train_faces,
        val_faces=read(task.val_shards),
        data=task.data,
        context=context,
        log=log,
        loader_processes=task.loader_processes,
    )
    return run, model
