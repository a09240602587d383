"""Who streams which samples of an epoch, in which order.

Seed, epoch and the numbers of samples in the shards decide, with the number of readers. The shards,
shuffled, are dealt to the readers in one row, and cut where one reader's part ends: so all have as
many samples as their steps need, and no sample is left out. A reader is a loader process of a rank,
or the rank itself where it has none.

An epoch that was stopped goes on with what no reader had come to, dealt anew to however many there
are then. What the readers held to draw from is passed over.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stn_icnn.data.plan import batch_sizes

SHUFFLE_BUFFER: Final = 1000
"""Samples that a reader holds, undecoded, and draws the next one from."""

Leg = tuple[int, int, int]
"""A part of an epoch that was trained without a stop: its ranks, the loader processes of each, and
its number of steps."""


class Piece(NamedTuple):
    """A run of a shard's samples, which one reader reads."""

    shard: int
    """The shard's place in its split."""
    copy: int
    """The number of the look at the samples, among the epoch's `augment.copies`."""
    start: int
    stop: int
    """The first sample's place in the shard, and the place behind the last."""


@dataclass(frozen=True)
class Readers:
    """The processes that stream an epoch together."""

    num_ranks: int
    num_processes: int
    """Loader processes of each rank; 0: the rank reads itself."""

    @property
    def per_rank(self) -> int:
        """The number of readers of a rank."""
        return max(self.num_processes, 1)

    def of_rank(self, rank: int, pieces: Sequence[list[Piece]]) -> list[list[Piece]]:
        """Returns what a rank's readers read."""
        return list(pieces[rank * self.per_rank : (rank + 1) * self.per_rank])

    def shares(self, sizes: Sequence[int], rank: int) -> list[int]:
        """Returns how many samples of each global batch are a rank's, as `plan.rank_share` has it.

        A rank's processes serve its batches in turn.
        """
        return [-(-(size - rank) // self.num_ranks) for size in sizes]

    def counts(self, sizes: Sequence[int]) -> list[int]:
        """Returns the number of samples that each reader gives in such steps.

        Readers are counted rank by rank.
        """
        ranks = np.arange(self.num_ranks)
        of_process: list[NDArray[np.int64]] = []
        for process in range(self.per_rank):
            served = np.array(sizes[process :: self.per_rank], int)
            distinct, times = np.unique(served, return_counts=True)
            of_process.append(-(-(distinct[None] - ranks[:, None]) // self.num_ranks) @ times)
        return [int(count) for count in np.stack(of_process, axis=1).flat]


@dataclass(frozen=True)
class StreamPlan:
    """An epoch, from where it stands."""

    sizes: list[int]
    """The number of samples of each global batch, those that are done among them."""
    pieces: list[list[Piece]]
    """What each reader reads for the steps that are left, in its order."""


def plan_stream(
    shard_samples: Sequence[int],
    copies: int,
    global_batch: int,
    seed: int,
    epoch: int,
    readers: Readers,
    num_done: int = 0,
    legs: Sequence[Leg] = (),
) -> StreamPlan:
    """Plans an epoch, or what is left of it.

    Args:
        shard_samples: the number of samples of each shard.
        copies: how often each sample is looked at in the epoch.
        global_batch: the most samples of a step, of all ranks.
        seed: of the order of shards.
        epoch: which epoch it is.
        readers: those who stream what is left.
        num_done: the number of steps that are done.
        legs: the legs in which they were done, as far as they were streamed. Where the first steps
            were not, what they saw may come again.
    """
    pieces = _shuffled(shard_samples, copies, seed, epoch)
    whole = batch_sizes(sum(shard_samples) * copies, global_batch)
    sizes = whole[: num_done - sum(steps for _, _, steps in legs)]
    for num_ranks, num_processes, steps in legs:
        of_leg = Readers(num_ranks, num_processes)
        planned = _sizes_left(pieces, global_batch, num_ranks, len(whole) - len(sizes))
        dealt = _deal(pieces, of_leg.counts(planned))
        pieces = _not_reached(dealt, of_leg.counts(planned[:steps]))
        sizes = sizes + planned[:steps]
    left = _sizes_left(pieces, global_batch, readers.num_ranks, len(whole) - len(sizes))
    return StreamPlan(sizes + left, _deal(pieces, readers.counts(left)))


def whole_shares(shard_samples: Sequence[int], num_ranks: int) -> list[list[Piece]]:
    """Deals a split to ranks, each sample once, in the order of the shards."""
    num_samples = sum(shard_samples)
    bounds = [num_samples * rank // num_ranks for rank in range(num_ranks + 1)]
    pieces = [Piece(shard, 0, 0, samples) for shard, samples in enumerate(shard_samples)]
    return _deal(pieces, [bounds[i + 1] - bounds[i] for i in range(num_ranks)])


def _shuffled(shard_samples: Sequence[int], copies: int, seed: int, epoch: int) -> list[Piece]:
    pieces = [
        Piece(shard, copy, 0, samples)
        for copy in range(copies)
        for shard, samples in enumerate(shard_samples)
    ]
    random.Random(f"shards {seed} {epoch}").shuffle(pieces)
    return pieces


def _sizes_left(pieces: Sequence[Piece], global_batch: int, num_ranks: int, most: int) -> list[int]:
    """Returns the sizes of the batches that pieces give; each has a sample for every rank."""
    num_samples = sum(piece.stop - piece.start for piece in pieces)
    sizes = batch_sizes(num_samples, global_batch)
    if sizes and sizes[-1] < num_ranks:
        sizes = [global_batch] * (num_samples // global_batch)
    return sizes[:most]


def _deal(pieces: Sequence[Piece], counts: Sequence[int]) -> list[list[Piece]]:
    """Cuts the row of pieces into runs of so many samples; what is behind the last is left."""
    row = iter(pieces)
    rest: Piece | None = None
    dealt: list[list[Piece]] = []
    for count in counts:
        own: list[Piece] = []
        while count:
            piece = rest or next(row)
            stop = min(piece.start + count, piece.stop)
            own.append(piece._replace(stop=stop))
            count -= stop - piece.start
            rest = piece._replace(start=stop) if stop < piece.stop else None
        dealt.append(own)
    return dealt


def _not_reached(dealt: Sequence[Sequence[Piece]], counts: Sequence[int]) -> list[Piece]:
    """Returns what readers had not come to, when each had given so many samples.

    A reader holds up to `SHUFFLE_BUFFER` samples beyond those that it has given.
    """
    left: list[Piece] = []
    for pieces, count in zip(dealt, counts, strict=True):
        position = count and count + SHUFFLE_BUFFER
        for piece in pieces:
            start = piece.start + max(position, 0)
            if start < piece.stop:
                left.append(piece._replace(start=start))
            position -= piece.stop - piece.start
    return left
