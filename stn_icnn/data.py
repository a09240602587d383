"""Reading faces from shards: any sample at any time, in an order that only seed and epoch decide.

Shards are tar files that webdataset reads as well; training wants more than its streaming gives (a
permutation of all samples, exact shares, resuming at any batch), so the tars' indices are read once
and each sample by its place.
"""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from simplejpeg import decode_jpeg
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stn_icnn.augment import draw
from stn_icnn.batch import Batch, Sample, collate
from stn_icnn.config import AugmentConfig
from stn_icnn.labels import NUM_CLASSES, PARTS

ShardOpener = Callable[[str], BinaryIO]
"""Opens a shard for reading, seekable. Must be picklable where loader processes are used."""

SUFFIXES = ("jpg", "png", "json")
MAX_OPEN_SHARDS = 128
"""Of a reader at a time: more would come near what a process may have open."""


def open_local(path: str) -> BinaryIO:
    """The opener for shards in folders."""
    return open(path, "rb")


@dataclass(frozen=True)
class SamplePlace:
    """Where a sample lies: shard, and offset and size of its members, bytes."""

    shard: str
    key: str
    members: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Request:
    """One look at a sample: in training its augmentation depends on all three."""

    index: int
    epoch: int = 0
    copy: int = 0


def index_shard(shard: str, opener: ShardOpener) -> list[SamplePlace]:
    """Lists the samples of a shard, in its order.

    Raises:
        ValueError: naming the shard, where it is not a whole tar or a sample lacks a member.
    """
    found: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with opener(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key, _, suffix = member.name.rpartition(".")
                found.setdefault(key, {})[suffix] = (member.offset_data, member.size)
            file.seek(tar.offset)  # tarfile takes a broken header, or none, for the end
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"broken at byte {tar.offset}")
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"corrupt shard {shard}: {error}; run `sharding verify` on it") from error
    for key, members in found.items():
        missing = [suffix for suffix in SUFFIXES if suffix not in members]
        if missing:
            raise ValueError(f"corrupt shard {shard}: sample {key} lacks {', '.join(missing)}")
    return [SamplePlace(shard, key, members) for key, members in found.items()]


class ShardedFaces(Dataset[Sample]):
    """The faces of one split of a sharded data set.

    Args:
        shards: paths or URLs, in the manifest's order.
        opener: opens them.
        augment: None to read faces as they are.
        seed: of the augmentation.
        canvas_px: limit on an image's side.
    """

    def __init__(
        self,
        shards: Sequence[str],
        opener: ShardOpener = open_local,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        canvas_px: int = 1024,
    ) -> None:
        self.places = [place for shard in shards for place in index_shard(shard, opener)]
        self.opener = opener
        self.augment = augment
        self.seed = seed
        self.canvas_px = canvas_px
        self._files: dict[tuple[int, str], BinaryIO] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": {}}

    def keys(self, requests: Sequence[Request]) -> list[str]:
        """Keys of the samples asked for."""
        return [self.places[request.index].key for request in requests]

    def __getitem__(self, request: Request) -> Sample:
        """Reads a sample.

        Raises:
            ValueError: naming shard and key, where it can't be decoded or is too large.
        """
        place = self.places[request.index]
        with _named(place):
            return self._read(place, request)

    def labels(self, index: int) -> Tensor:
        """A sample's labels alone, `[H, W]` uint8 canonical; ValueError as for the sample."""
        place = self.places[index]
        with _named(place):
            return torch.from_numpy(_decode_labels(self._members(place)["png"]))

    def _read(self, place: SamplePlace, request: Request) -> Sample:
        raw = self._members(place)
        pixels, labels = decode_jpeg(raw["jpg"]), _decode_labels(raw["png"])
        parts = json.loads(raw["json"])["parts"]
        if labels.ndim != 2 or pixels.shape != (*labels.shape, 3):
            raise ValueError(
                "image must be [H, W, 3] and labels [H, W] of its size, got "
                f"{list(pixels.shape)} and {list(labels.shape)}"
            )
        height, width = labels.shape
        if int(labels.max()) >= NUM_CLASSES:
            raise ValueError(f"class ids must be under {NUM_CLASSES}, got {int(labels.max())}")
        if max(height, width) > self.canvas_px:
            raise ValueError(
                f"{width} x {height} px is over the canvas limit; raise model.canvas_px "
                f"({self.canvas_px}) or shard at a smaller scale"
            )
        augmentation = None
        if self.augment is not None:
            seed = [self.seed, request.epoch, request.index, request.copy]
            rng = np.random.default_rng(seed)
            augmentation = draw(self.augment, (width, height), request.copy, rng)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        return Sample(
            key=place.key,
            image=image,
            labels=torch.from_numpy(labels),
            centres=torch.tensor(
                [parts.get(part.name, (0.0, 0.0))[:2] for part in PARTS], dtype=torch.float32
            ),
            present=torch.tensor([part.name in parts for part in PARTS]),
            augmentation=augmentation,
        )

    def _members(self, place: SamplePlace) -> dict[str, bytes]:
        """A sample's members, fetched with one read."""
        owner = (os.getpid(), place.shard)  # a forked loader must not share its parent's position
        file = self._files.get(owner)
        if file is None:
            if len(self._files) >= MAX_OPEN_SHARDS:
                self._files.pop(next(iter(self._files))).close()
            file = self._files[owner] = self.opener(place.shard)
        start = min(offset for offset, _ in place.members.values())
        end = max(offset + size for offset, size in place.members.values())
        file.seek(start)
        block = file.read(end - start)
        if len(block) < end - start:
            raise ValueError("the shard ends before the sample does")
        return {
            suffix: block[offset - start : offset - start + size]
            for suffix, (offset, size) in place.members.items()
        }


@contextmanager
def _named(place: SamplePlace) -> Iterator[None]:
    """Gives what a damaged sample raises the names of shard and sample."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
        raise ValueError(f"shard {place.shard}, sample {place.key}: {error}") from error


def _decode_labels(data: bytes) -> NDArray[np.uint8]:
    """A PNG's values, `[H, W]`, or more if it is no label map."""
    return np.array(Image.open(io.BytesIO(data)))


def plan_epoch(
    num_samples: int, copies: int, global_batch: int, seed: int, epoch: int
) -> list[list[Request]]:
    """The global batches of an epoch: every copy of every sample once, in a seeded order.

    As many batches as `global_batch` needs, their sizes as even as can be: the last is as good as
    any, and at least half of `global_batch` where there are more samples than one holds.
    """
    order = np.random.default_rng([seed, epoch]).permutation(num_samples * copies)
    num_batches = -(-len(order) // global_batch)
    return [
        [Request(int(i) % num_samples, epoch, int(i) // num_samples) for i in part]
        for part in np.array_split(order, num_batches)
    ]


def load_batches(
    faces: ShardedFaces,
    plan: Sequence[Sequence[Request]],
    rank: int = 0,
    world_size: int = 1,
    num_processes: int = 0,
) -> Iterator[Batch]:
    """A rank's share of each planned batch, in order.

    Args:
        faces: to read from.
        plan: global batches; each must have a sample for every rank.
        rank: of this reader.
        world_size: number of readers.
        num_processes: that decode ahead; 0: decode here (on a CPU that trains, no slower).
    """
    shares = [list(batch[rank::world_size]) for batch in plan]
    loader = DataLoader(
        faces,
        batch_sampler=shares,
        collate_fn=collate,
        num_workers=num_processes,
        pin_memory=torch.cuda.is_available(),
    )
    yield from loader


def plan_evaluation(
    num_samples: int, rank: int, world_size: int, batch: int
) -> list[list[Request]]:
    """A rank's batches of a split read once: over all ranks, every sample exactly once.

    Whole batches are dealt out, so that a sample's neighbours, and with them the last bits of its
    result, do not depend on how many ranks there are.
    """
    starts = range(rank * batch, num_samples, world_size * batch)
    return [[Request(i) for i in range(at, min(at + batch, num_samples))] for at in starts]
