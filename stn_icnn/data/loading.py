"""Reading planned batches ahead of their use, in a thread or in processes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader

from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces


def load_batches(
    faces: ShardedFaces,
    plan: Sequence[Sequence[Request]],
    rank: int = 0,
    world_size: int = 1,
    num_processes: int = 0,
) -> Iterator[Batch]:
    """Yields a rank's share of each planned batch, in order.

    Args:
        faces: the split to read from.
        plan: global batches; each must have a sample for every rank.
        rank: the rank of this reader.
        world_size: the number of readers.
        num_processes: the number of processes that decode ahead. 0: a thread of this process
            decodes the next batch while a batch is used (on a CPU that trains, no slower).
    """
    shares = [list(batch[rank::world_size]) for batch in plan]
    pinned = torch.cuda.is_available()
    if num_processes == 0:
        read = (faces.__getitems__(share) for share in shares)
        yield from _read_ahead(batch.pin_memory() if pinned else batch for batch in read)
        return
    yield from DataLoader(
        faces,
        batch_sampler=shares,
        collate_fn=_unchanged,
        num_workers=num_processes,
        pin_memory=pinned,
    )


def _read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yields the same batches, each made by a thread while the one before it is used."""
    with ThreadPoolExecutor(1, "reader") as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _unchanged(batch: Any) -> Any:
    """Collates nothing: `ShardedFaces` gives whole batches. PyTorch's loader pickles it."""
    return batch
