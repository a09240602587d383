"""The faces of a split, however its shards are read: what becomes of their encoded samples."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from simplejpeg import decode_jpeg
from torch import Tensor

from stn_icnn.checks import require
from stn_icnn.config import AugmentConfig
from stn_icnn.data.augmentation import Augmentation, draw
from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Request
from stn_icnn.decoding import DECODE_ERRORS
from stn_icnn.labels import LabelSet

SUFFIXES = ("jpg", "png", "json")

Content = bytes | memoryview
"""The bytes of a member of a sample."""


@dataclass(frozen=True)
class EncodedSample:
    """A sample as it was read, before its pixels are decoded."""

    shard: str
    """Path or address of its shard."""
    key: str
    members: Mapping[str, Content]
    size: tuple[int, int]
    """(W, H), px."""
    centres: NDArray[np.float32]
    """`[P, 2]`, px."""
    present: list[bool]


class Faces:
    """The faces of one split of a sharded data set.

    Args:
        label_set: the classes and parts that the faces are read with.
        augment: None to read faces as they are.
        seed: of the augmentation.
        canvas_px: limit on an image's side.
        with_labels: whether label maps are read; without, a batch knows its centres alone.
        stored: the label set of the shards, as the manifest names it; None: it is `label_set`.
            Classes that `label_set` lacks are read as background.

    Raises:
        ValueError: the shards lack a class or part of `label_set`.
    """

    def __init__(
        self,
        label_set: LabelSet,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        canvas_px: int = 1024,
        with_labels: bool = True,
        stored: LabelSet | None = None,
    ) -> None:
        self.label_set = label_set
        self.augment = augment
        self.seed = seed
        self.canvas_px = canvas_px
        self.with_labels = with_labels
        self._class_ids = translation(stored or label_set, label_set)

    def encoded(self, shard: str, key: str, members: Mapping[str, Content]) -> EncodedSample:
        """Reads a sample's sizes and parts, without decoding its pixels.

        Raises:
            ValueError: naming shard and key, where they can't be read or the sample is too large.
        """
        with naming_sample(shard, key):
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
            return EncodedSample(shard, key, members, (width, height), centres, present)

    def batch_of(self, encoded: Sequence[EncodedSample], requests: Sequence[Request]) -> Batch:
        """Decodes samples into a batch, each augmented as its request says.

        Each image is decoded straight into the batch's canvas, and all else is done for all samples
        at once, which takes a tenth of the time.

        Raises:
            ValueError: naming shard and key, where a sample can't be decoded.
        """
        sizes = tuple(face.size for face in encoded)
        width, height = (max(sides) for sides in zip(*sizes, strict=True))
        canvas = np.empty if len(set(sizes)) == 1 else np.zeros  # 0 beyond an image
        images = canvas((len(encoded), height, width, 3), np.uint8)
        labels = canvas((len(encoded), height, width), np.uint8) if self.with_labels else None
        for i, face in enumerate(encoded):
            own = np.s_[i, : face.size[1], : face.size[0]]
            with naming_sample(face.shard, face.key):
                _decode_jpeg(face.members["jpg"], images[own])
                if labels is not None:
                    _decode_labels(face.members["png"], labels[own], self._class_ids)
        return Batch(
            keys=tuple(face.key for face in encoded),
            images=torch.from_numpy(images).permute(0, 3, 1, 2),
            sizes=torch.tensor(sizes, dtype=torch.float32),
            host_sizes=sizes,
            labels=None if labels is None else torch.from_numpy(labels),
            centres=torch.from_numpy(np.stack([face.centres for face in encoded])),
            present=torch.tensor([face.present for face in encoded]),
            augmentation=self._draw_augmentation(requests, sizes),
        )

    def label_map(self, shard: str, key: str, png: Content) -> Tensor:
        """Decodes a label map, `[H, W]` uint8 class ids.

        Raises:
            ValueError: naming shard and sample, where it can't be decoded or is too large.
        """
        with naming_sample(shard, key):
            opened = _open_png(png)
            side = max(opened.size)
            require(side <= self.canvas_px, "labels", f"at most {self.canvas_px} px", side)
            return torch.from_numpy(_translated(opened, self._class_ids))

    def _draw_augmentation(
        self, requests: Sequence[Request], sizes: Sequence[tuple[int, int]]
    ) -> Augmentation | None:
        if self.augment is None:
            return None
        seeds = ((self.seed, r.epoch, r.index, r.copy) for r in requests)
        copies = [request.copy for request in requests]
        return draw(self.augment, self.label_set, sizes, copies, seeds)


def translation(stored: LabelSet, label_set: LabelSet) -> NDArray[np.uint8]:
    """Returns the id that each class of shards has in a label set: 0 where it has none.

    Raises:
        ValueError: the shards lack a class or part of the label set.
    """
    own, there = label_set.class_names, stored.class_names
    lacking = [one.name for one in label_set.classes if one.labelled and one.name not in there]
    measured = {part.name: part.classes for part in stored.parts}
    lacking += [part.name for part in label_set.parts if measured.get(part.name) != part.classes]
    require(
        not lacking,
        "labels",
        f"of classes and parts that the shards hold ({', '.join(there)}), or the data sharded "
        f"again with `--labels`, for {label_set.name}",
        f"{', '.join(lacking)} beside them",
    )
    return np.array([own.index(name) if name in own else 0 for name in there], np.uint8)


@contextmanager
def naming_sample(shard: str, key: str) -> Iterator[None]:
    """Turns what a damaged sample raises into a ValueError with the names of shard and sample."""
    try:
        yield
    except DECODE_ERRORS as error:
        raise ValueError(f"shard {shard}, sample {key}: {error}") from error


def require_members(shard: str, key: str, members: Mapping[str, object]) -> None:
    """Refuses a sample that lacks a member.

    Raises:
        ValueError: naming shard, sample and what is missing.
    """
    missing = [suffix for suffix in SUFFIXES if suffix not in members]
    if missing:
        raise ValueError(f"corrupt shard {shard}: sample {key} lacks {', '.join(missing)}")


def _decode_jpeg(data: Content, out: NDArray[np.uint8]) -> None:
    """Decodes an RGB image into `out`, `[H, W, 3]`."""
    buffer = out if out.flags.c_contiguous else np.empty_like(out)
    pixels = decode_jpeg(data, buffer=buffer)
    require(pixels.shape == out.shape, "image", f"{list(out.shape)}", list(pixels.shape))
    if buffer is not out:
        out[:] = pixels


def _open_png(data: Content) -> Image.Image:
    """Opens a PNG; its pixels, which may be far more than its bytes, are not decoded yet."""
    return Image.open(BytesIO(data), formats=("PNG",))


def _decode_labels(data: Content, out: NDArray[np.uint8], class_ids: NDArray[np.uint8]) -> None:
    """Decodes a label map into `out`, `[H, W]`; `class_ids` has the id of each stored one."""
    opened = _open_png(data)
    shape = list(opened.size[::-1])
    require(shape == list(out.shape), "labels", f"{list(out.shape)}", shape)
    labels = _translated(opened, class_ids)
    require(labels.shape == out.shape, "labels", f"{list(out.shape)}", list(labels.shape))
    out[:] = labels


def _translated(stored: Image.Image, class_ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a label map with the ids of stored classes replaced."""
    labels = np.asarray(stored)
    highest = int(labels.max())
    require(highest < len(class_ids), "class ids", f"under {len(class_ids)}", highest)
    translated: NDArray[np.uint8] = class_ids[labels]
    return translated
