"""Faces streamed from shards by webdataset's pipeline, where a node's disk does not hold them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice

import webdataset as wds
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from stn_icnn.config import AugmentConfig
from stn_icnn.data.batch import Batch
from stn_icnn.data.faces import Faces
from stn_icnn.data.plan import Request
from stn_icnn.data.shard_stream import Sample, StreamableShard, stream_samples
from stn_icnn.data.stream_plan import SHUFFLE_BUFFER, Piece, whole_shares
from stn_icnn.labels import LabelSet


class StreamedFaces(Faces):
    """The faces of one split, whose shards are read as they arrive.

    Args:
        shards: the split's shards, in the manifest's order.
        label_set: the same as in `Faces`; so are all that follow.
    """

    def __init__(
        self,
        shards: Sequence[StreamableShard],
        label_set: LabelSet,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        canvas_px: int = 1024,
        with_labels: bool = True,
        stored: LabelSet | None = None,
    ) -> None:
        super().__init__(label_set, augment, seed, canvas_px, with_labels, stored)
        self.shards = list(shards)
        self._first = [0, *accumulate(self.shard_samples)]

    def __len__(self) -> int:
        return self._first[-1]

    @property
    def shard_samples(self) -> list[int]:
        """The number of samples of each shard."""
        return [shard.samples for shard in self.shards]

    def label_maps(self, rank: int, world_size: int) -> Iterator[Tensor]:
        """Yields a rank's share of the label maps, `[H, W]` uint8 class ids; no sample is left out.

        Raises:
            ValueError: naming shard and key, where a sample can't be decoded.
        """
        pieces = whole_shares(self.shard_samples, world_size)[rank]
        for sample, _ in self.looks(0, pieces):
            yield self.label_map(sample["__url__"], sample["__key__"], sample["png"])

    def looks(self, epoch: int, pieces: Sequence[Piece]) -> Iterator[tuple[Sample, Request]]:
        """Yields the samples of pieces, in their order, and which looks at them they are."""
        for piece in pieces:
            samples = stream_samples(self.shards[piece.shard], piece.start, piece.stop)
            for index, sample in enumerate(samples, self._first[piece.shard] + piece.start):
                yield sample, Request(index, epoch, piece.copy)


@dataclass(frozen=True)
class EpochStream(IterableDataset[Batch]):
    """A rank's batches of an epoch, or of what is left of it.

    PyTorch's loader iterates it in each of its processes, which serve the batches in turn.
    """

    faces: StreamedFaces
    epoch: int
    pieces: Sequence[Sequence[Piece]]
    """What each of the rank's readers reads."""
    sizes: Sequence[int]
    """The number of samples of each batch."""
    seed: str
    """Seed of the order in which samples leave the shuffle buffer."""

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        reader, num_readers = (worker.id, worker.num_workers) if worker else (0, 1)
        rng = random.Random(f"{self.seed} {reader}")
        pipeline = wds.DataPipeline(
            partial(self.faces.looks, self.epoch, self.pieces[reader]),
            wds.shuffle(SHUFFLE_BUFFER, rng=rng),
        )
        looks = iter(pipeline)
        for size in self.sizes[reader::num_readers]:
            yield self._batch(list(islice(looks, size)))

    def _batch(self, looks: Sequence[tuple[Sample, Request]]) -> Batch:
        encoded = [self.faces.encoded(s["__url__"], s["__key__"], s) for s, _ in looks]
        return self.faces.batch_of(encoded, [request for _, request in looks])
