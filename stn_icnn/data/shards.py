"""Faces read from shards: any sample at any time.

Shards are tar files that webdataset reads as well. Training wants more than its streaming gives: a
permutation of all samples, exact shares, resuming at any batch. So the tars' indices are
read once, and each sample is read at its offset.
"""

import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from stn_icnn.archives import MAX_SAMPLE_BYTES, open_tar
from stn_icnn.checks import require
from stn_icnn.config import AugmentConfig
from stn_icnn.data.batch import Batch
from stn_icnn.data.faces import EncodedSample, Faces, naming_sample, require_members
from stn_icnn.data.plan import Request
from stn_icnn.labels import LabelSet

SELECTION = 2020
"""Keeps the random numbers of `select` apart from those of an epoch's order."""
MAX_OPEN_SHARDS = 128
"""Files that a reader holds open at a time; more would come near what a process may have."""


@dataclass(frozen=True)
class SampleLocation:
    """The place of a sample in a shard."""

    shard: str
    """Path of its shard."""
    key: str
    members: dict[str, tuple[int, int]]
    """The offset of each member in the shard and its size, bytes, by suffix."""


def index_shard(shard: str) -> list[SampleLocation]:
    """Lists the samples of a shard, in its order.

    Raises:
        ValueError: naming the shard, where it is not a whole tar or a sample lacks a member.
    """
    found: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with open(shard, "rb") as file, open_tar(file) as tar:
            for member in tar:
                key, _, suffix = member.name.rpartition(".")
                found.setdefault(key, {})[suffix] = (member.offset_data, member.size)
            file.seek(tar.offset)  # tarfile takes a broken header, or none, for the end
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"broken at byte {tar.offset}")
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"corrupt shard {shard}: {error}; run `sharding verify` on it") from error
    for key, members in found.items():
        require_members(shard, key, members)
        start, end = _span(members)
        if end - start > MAX_SAMPLE_BYTES:  # they are read at once
            raise ValueError(
                f"corrupt shard {shard}: sample {key} must have at most {MAX_SAMPLE_BYTES} bytes, "
                f"got {end - start}"
            )
    return [SampleLocation(shard, key, members) for key, members in found.items()]


class ShardedFaces(Faces, Dataset[Batch]):
    """The faces of one split, whose shards are files of this machine.

    Args:
        shards: paths, in the manifest's order.
        label_set: the same as in `Faces`; so are all that follow.
    """

    def __init__(
        self,
        shards: Sequence[str],
        label_set: LabelSet,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        canvas_px: int = 1024,
        with_labels: bool = True,
        stored: LabelSet | None = None,
    ) -> None:
        super().__init__(label_set, augment, seed, canvas_px, with_labels, stored)
        self.samples = [location for shard in shards for location in index_shard(shard)]
        self._files: dict[str, FileIO] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": {}}

    def select(self, num_images: int, seed: int) -> None:
        """Keeps some of the faces, in their order; the seed alone decides which.

        Fewer are always among more, so that trainings on 100 and on 400 images compare.

        Raises:
            ValueError: with both numbers, where there are not so many.
        """
        there = 1 <= num_images <= len(self)
        require(there, "num_images", f"from 1 to the {len(self)} faces", num_images)
        order = np.random.default_rng([SELECTION, seed]).permutation(len(self))
        self.samples = [self.samples[i] for i in sorted(order[:num_images].tolist())]

    def keys(self, requests: Sequence[Request]) -> list[str]:
        """Returns the keys of the samples asked for."""
        return [self.samples[request.index].key for request in requests]

    def __getitem__(self, request: Request) -> Batch:
        """Reads one sample, as a batch; raises as `__getitems__` does."""
        return self.__getitems__([request])

    def __getitems__(self, requests: Sequence[Request]) -> Batch:
        """Reads a batch; PyTorch's loader calls this.

        Raises:
            ValueError: naming shard and key, where a sample can't be decoded or is too large.
        """
        return self.batch_of([self._read(self.samples[r.index]) for r in requests], requests)

    def label_maps(self, rank: int, world_size: int) -> Iterator[Tensor]:
        """Yields a rank's share of the label maps, as `labels` reads them."""
        return (self.labels(index) for index in range(rank, len(self), world_size))

    def labels(self, index: int) -> Tensor:
        """Reads a sample's labels alone, `[H, W]` uint8 class ids; raises as `__getitem__` does."""
        location = self.samples[index]
        with naming_sample(location.shard, location.key):
            png = self._read_members(location)["png"]
        return self.label_map(location.shard, location.key, png)

    def _read(self, location: SampleLocation) -> EncodedSample:
        """Reads a sample without decoding its pixels."""
        with naming_sample(location.shard, location.key):
            members = self._read_members(location)
        return self.encoded(location.shard, location.key, members)

    def _read_members(self, location: SampleLocation) -> dict[str, memoryview]:
        """Reads a sample's members, by suffix, with one call."""
        file = self._files.get(location.shard)
        if file is None:
            if len(self._files) >= MAX_OPEN_SHARDS:
                self._files.pop(next(iter(self._files))).close()
            file = self._files[location.shard] = FileIO(location.shard)
        start, end = _span(location.members)
        # At an offset: a position would be shared with the process that this one was forked from.
        block = memoryview(os.pread(file.fileno(), end - start, start))
        if len(block) < end - start:
            raise ValueError("the shard ends before the sample does")
        return {
            suffix: block[offset - start : offset - start + size]
            for suffix, (offset, size) in location.members.items()
        }


def _span(members: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Returns where in its shard a sample's first member begins, and where its last ends, bytes."""
    ends = [offset + size for offset, size in members.values()]
    return min(offset for offset, _ in members.values()), max(ends)
