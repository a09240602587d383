"""Reading batches, planned or streamed, ahead of their use, in a thread or in processes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import DataLoader, default_convert

from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Plan
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.data.streaming import EpochStream


def load_batches(faces: ShardedFaces, plan: Plan, num_processes: int = 0) -> Iterator[Batch]:
    """Yields the planned batches, in order.

    Args:
        faces: the split to read from.
        plan: the batches of this reader.
        num_processes: the number of processes that decode ahead. 0: a thread of this process
            decodes the next batch while a batch is used (on a CPU that trains, no slower).
    """
    pinned = torch.cuda.is_available()
    if num_processes == 0:
        read = (faces.__getitems__(requests) for requests in plan)
        yield from _read_ahead(batch.pin_memory() if pinned else batch for batch in read)
        return
    yield from DataLoader(
        faces,
        batch_sampler=plan,
        collate_fn=default_convert,  # whole batches stay as `ShardedFaces` gives them
        num_workers=num_processes,
        pin_memory=pinned,
    )


def load_stream(stream: EpochStream, num_processes: int = 0) -> Iterator[Batch]:
    """Yields the batches of a stream, in order; see `load_batches`."""
    pinned = torch.cuda.is_available()
    if num_processes == 0:
        yield from _read_ahead(batch.pin_memory() if pinned else batch for batch in stream)
        return
    yield from DataLoader(stream, batch_size=None, num_workers=num_processes, pin_memory=pinned)


def _read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yields the same batches, each made by a thread while the one before it is used."""
    with ThreadPoolExecutor(1, "reader") as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch
