"""An epoch as one rank reads it, by whichever reader."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from stn_icnn.config import TrainConfig
from stn_icnn.context import TrainContext
from stn_icnn.data.batch import Batch
from stn_icnn.data.loading import load_batches, load_stream
from stn_icnn.data.plan import num_batches, plan_epoch, rank_share
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.data.stream_plan import Leg, Readers, plan_stream
from stn_icnn.data.streaming import EpochStream, StreamedFaces

NAMED_STEPS: Final = 32
"""The last steps whose samples a streamed epoch can name."""

TrainingFaces = ShardedFaces | StreamedFaces
"""The faces of a training split, by either reader."""


@dataclass(frozen=True)
class Epoch:
    """What one rank reads in an epoch, from where it stands."""

    sizes: Sequence[int]
    """The number of samples of each global batch, those that are done among them."""
    batches: Iterator[Batch]
    """This rank's shares of those that are not done, read as they are asked for."""
    keys: Callable[[int], Sequence[str]]
    """Names the samples of a step's global batch; where it is streamed, those of this rank's share,
    of one of the last `NAMED_STEPS` steps."""
    legs: Callable[[int], list[Leg]]
    """Tells how the steps up to one were streamed, by which a streamed epoch goes on from there; a
    number of steps says it all of one that is not."""


def steps_per_epoch(faces: TrainingFaces, config: TrainConfig) -> int:
    """Returns the number of steps of an epoch, which one that was stopped may fall short of."""
    return num_batches(len(faces) * config.augment.copies, config.optim.global_batch)


def open_epoch(
    faces: TrainingFaces,
    config: TrainConfig,
    number: int,
    context: TrainContext,
    loader_processes: int = 0,
    num_done: int = 0,
    legs: Sequence[Leg] = (),
) -> Epoch:
    """Opens an epoch, of which nothing is read yet.

    Args:
        faces: the training split.
        config: gives the seed, the copies and the size of the global batch.
        number: the number of the epoch, from 0.
        context: the ranks that read it together.
        loader_processes: the processes that decode ahead for each rank.
        num_done: the number of its steps that are done.
        legs: how they were streamed, where they were.
    """
    if isinstance(faces, StreamedFaces):
        return _open_stream(faces, config, number, context, loader_processes, num_done, legs)
    plan = plan_epoch(
        len(faces), config.augment.copies, config.optim.global_batch, config.seed, number
    )
    share = rank_share(plan[num_done:], context.rank, context.world_size)
    return Epoch(
        [len(batch) for batch in plan],
        load_batches(faces, share, loader_processes),
        keys=lambda step: faces.keys(plan[step]),
        legs=lambda step: [],
    )


def _open_stream(
    faces: StreamedFaces,
    config: TrainConfig,
    number: int,
    context: TrainContext,
    loader_processes: int,
    num_done: int,
    legs: Sequence[Leg],
) -> Epoch:
    readers = Readers(context.world_size, loader_processes)
    plan = plan_stream(
        faces.shard_samples,
        config.augment.copies,
        config.optim.global_batch,
        config.seed,
        number,
        readers,
        num_done,
        legs,
    )
    stream = EpochStream(
        faces,
        number,
        readers.of_rank(context.rank, plan.pieces),
        readers.shares(plan.sizes[num_done:], context.rank),
        seed=f"{config.seed} {number} {num_done} {context.rank}",
    )
    names: dict[int, Sequence[str]] = {}
    return Epoch(
        plan.sizes,
        _noting_names(load_stream(stream, loader_processes), num_done, names),
        keys=lambda step: names[step],
        legs=lambda step: [*legs, (context.world_size, loader_processes, step - num_done)],
    )


def _noting_names(
    batches: Iterator[Batch], first: int, names: dict[int, Sequence[str]]
) -> Iterator[Batch]:
    """Yields the same batches, the keys of the last of which can be looked up by their step."""
    for step, batch in enumerate(batches, first):
        names[step] = batch.keys
        names.pop(step - NAMED_STEPS, None)
        yield batch
