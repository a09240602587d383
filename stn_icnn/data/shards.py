"""Faces read from shards: any sample at any time.

Shards are tar files that webdataset reads as well. Training wants more than its streaming gives: a
permutation of all samples, exact shares, resuming at any batch. So the tars' indices are
read once, and each sample is read at its offset.
"""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, FileIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from simplejpeg import decode_jpeg
from torch import Tensor
from torch.utils.data import Dataset

from stn_icnn.config import AugmentConfig, require
from stn_icnn.data.augmentation import Augmentation, draw
from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Request
from stn_icnn.decoding import DECODE_ERRORS
from stn_icnn.labels import LabelSet

SUFFIXES = ("jpg", "png", "json")
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
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
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
    return [SampleLocation(shard, key, members) for key, members in found.items()]


@dataclass(frozen=True)
class _EncodedSample:
    """A sample as it was read, before its pixels are decoded."""

    location: SampleLocation
    members: dict[str, memoryview]
    size: tuple[int, int]
    """(W, H), px."""
    centres: NDArray[np.float32]
    """`[P, 2]`, px."""
    present: list[bool]


class ShardedFaces(Dataset[Batch]):
    """The faces of one split of a sharded data set.

    Args:
        shards: paths, in the manifest's order.
        label_set: the classes and parts of the faces, as the manifest names them.
        augment: None to read faces as they are.
        seed: of the augmentation.
        canvas_px: limit on an image's side.
        with_labels: whether label maps are read; without, a batch knows its centres alone.
    """

    def __init__(
        self,
        shards: Sequence[str],
        label_set: LabelSet,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        canvas_px: int = 1024,
        with_labels: bool = True,
    ) -> None:
        self.samples = [location for shard in shards for location in index_shard(shard)]
        self.label_set = label_set
        self.augment = augment
        self.seed = seed
        self.canvas_px = canvas_px
        self.with_labels = with_labels
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

        Each image is decoded straight into the batch's canvas, and all else is done for all samples
        at once, which takes a tenth of the time.

        Raises:
            ValueError: naming shard and key, where a sample can't be decoded or is too large.
        """
        encoded = [self._read(self.samples[request.index]) for request in requests]
        sizes = tuple(face.size for face in encoded)
        width, height = (max(sides) for sides in zip(*sizes, strict=True))
        canvas = np.empty if len(set(sizes)) == 1 else np.zeros  # 0 beyond an image
        images = canvas((len(requests), height, width, 3), np.uint8)
        labels = canvas((len(requests), height, width), np.uint8) if self.with_labels else None
        for i, face in enumerate(encoded):
            own = np.s_[i, : face.size[1], : face.size[0]]
            with _naming_sample(face.location):
                _decode_jpeg(face.members["jpg"], images[own])
                if labels is not None:
                    _decode_labels(face.members["png"], labels[own], self.label_set.num_classes)
        return Batch(
            keys=tuple(face.location.key for face in encoded),
            images=torch.from_numpy(images).permute(0, 3, 1, 2),
            sizes=torch.tensor(sizes, dtype=torch.float32),
            host_sizes=sizes,
            labels=None if labels is None else torch.from_numpy(labels),
            centres=torch.from_numpy(np.stack([face.centres for face in encoded])),
            present=torch.tensor([face.present for face in encoded]),
            augmentation=self._draw_augmentation(requests, sizes),
        )

    def _draw_augmentation(
        self, requests: Sequence[Request], sizes: Sequence[tuple[int, int]]
    ) -> Augmentation | None:
        if self.augment is None:
            return None
        seeds = ((self.seed, r.epoch, r.index, r.copy) for r in requests)
        copies = [request.copy for request in requests]
        return draw(self.augment, self.label_set, sizes, copies, seeds)

    def labels(self, index: int) -> Tensor:
        """Reads a sample's labels alone, `[H, W]` uint8 class ids; raises as `__getitem__` does."""
        location = self.samples[index]
        with _naming_sample(location):
            return torch.from_numpy(_decode_png(self._read_members(location)["png"]).copy())

    def _read(self, location: SampleLocation) -> _EncodedSample:
        """Reads a sample without decoding its pixels."""
        with _naming_sample(location):
            members = self._read_members(location)
            info = json.loads(bytes(members["json"]))
            width, height, parts = info["width"], info["height"], info["parts"]
            if not all(isinstance(side, int) and side > 0 for side in (width, height)):
                raise ValueError(f"sizes must be whole and positive, got {width} x {height}")
            if max(width, height) > self.canvas_px:
                raise ValueError(
                    f"{width} x {height} px is over the canvas limit; raise model.canvas_px "
                    f"({self.canvas_px}) or shard at a smaller scale"
                )
            names = [part.name for part in self.label_set.parts]
            found = [parts.get(name, (0.0, 0.0))[:2] for name in names]
            centres = np.array(found, np.float32).reshape(len(names), 2)
            present = [name in parts for name in names]
            return _EncodedSample(location, members, (width, height), centres, present)

    def _read_members(self, location: SampleLocation) -> dict[str, memoryview]:
        """Reads a sample's members, by suffix, with one call."""
        file = self._files.get(location.shard)
        if file is None:
            if len(self._files) >= MAX_OPEN_SHARDS:
                self._files.pop(next(iter(self._files))).close()
            file = self._files[location.shard] = FileIO(location.shard)
        start = min(offset for offset, _ in location.members.values())
        end = max(offset + size for offset, size in location.members.values())
        # At an offset: a position would be shared with the process that this one was forked from.
        block = memoryview(os.pread(file.fileno(), end - start, start))
        if len(block) < end - start:
            raise ValueError("the shard ends before the sample does")
        return {
            suffix: block[offset - start : offset - start + size]
            for suffix, (offset, size) in location.members.items()
        }


@contextmanager
def _naming_sample(location: SampleLocation) -> Iterator[None]:
    """Turns what a damaged sample raises into a ValueError with the names of shard and sample."""
    try:
        yield
    except DECODE_ERRORS as error:
        raise ValueError(f"shard {location.shard}, sample {location.key}: {error}") from error


def _decode_jpeg(data: memoryview, out: NDArray[np.uint8]) -> None:
    """Decodes an RGB image into `out`, `[H, W, 3]`."""
    buffer = out if out.flags.c_contiguous else np.empty_like(out)
    pixels = decode_jpeg(data, buffer=buffer)
    require(pixels.shape == out.shape, "image", f"{list(out.shape)}", list(pixels.shape))
    if buffer is not out:
        out[:] = pixels


def _decode_png(data: memoryview) -> NDArray[np.uint8]:
    """Returns a PNG's values, read-only: `[H, W]`, or more axes if it is no label map."""
    return np.asarray(Image.open(BytesIO(data), formats=("PNG",)))


def _decode_labels(data: memoryview, out: NDArray[np.uint8], num_classes: int) -> None:
    """Decodes a label map into `out`, `[H, W]`."""
    labels = _decode_png(data)
    require(labels.shape == out.shape, "labels", f"{list(out.shape)}", list(labels.shape))
    highest = int(labels.max())
    require(highest < num_classes, "class ids", f"under {num_classes}", highest)
    out[:] = labels
