"""Writes one shard. Shards know nothing of each other, so any process may write any of them."""

import dataclasses
import hashlib
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sharding import celebamask, helen
from sharding.manifest import PARTS_FOLDER, Rejection, Shard, digest_of
from sharding.raw import Item, Layout, RejectedError
from sharding.sample import encode_sample
from sharding.storage import Place, open_place
from stn_icnn.labels import NUM_CLASSES

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (celebamask.LAYOUT, helen.LAYOUT)}


@dataclass(frozen=True)
class ShardTask:
    """What one shard is made of: plain data, to be sent to any process.

    Attributes:
        layout: a key of `LAYOUTS`.
        source: the raw data set's place.
        out: the sharded data set's place.
        split: `train`, `val` or `test`.
        index: the shard's number in its split.
        items: its fixed run of the split's items.
    """

    layout: str
    source: str
    out: str
    split: str
    index: int
    items: tuple[Item, ...]

    @property
    def path(self) -> str:
        """The shard's path in the data set."""
        return f"{self.split}/{self.index:06d}.tar"

    @property
    def record_path(self) -> str:
        """Where the shard's record lies until the manifest is written."""
        return f"{PARTS_FOLDER}/{self.split}-{self.index:06d}.json"

    @property
    def digest(self) -> str:
        """Digest of what goes into the shard, the same wherever the raw data set lies."""
        return digest_of([self.layout, self.path, [dataclasses.astuple(i) for i in self.items]])


@dataclass(frozen=True)
class ShardRecord:
    """What came of a task.

    Attributes:
        split: `train`, `val` or `test`.
        digest: the task's.
        shard: the written shard, or None where every item was rejected.
        class_pixels: number of pixels of each class.
        rejected: the items left out.
    """

    split: str
    digest: str
    shard: Shard | None
    class_pixels: tuple[int, ...]
    rejected: tuple[Rejection, ...]


def write_shard(task: ShardTask) -> ShardRecord:
    """Writes the task's shard and its record, or finds both already there.

    The shard is built in a local file and put in place whole; its record follows it.
    """
    out = open_place(task.out)
    record = _finished_record(task, out)
    if record is not None:
        return record
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "shard.tar"
        class_pixels, rejected = _write_tar(task, local)
        num_samples = len(task.items) - len(rejected)
        shard = _describe(task.path, local, num_samples) if num_samples else None
        if shard:
            out.upload(local, task.path)
    record = ShardRecord(task.split, task.digest, shard, class_pixels, rejected)
    out.write(task.record_path, json.dumps(dataclasses.asdict(record)).encode())
    return record


def _write_tar(task: ShardTask, local: Path) -> tuple[tuple[int, ...], tuple[Rejection, ...]]:
    """Writes the items that can be read; returns pixels per class and the items that cannot."""
    from webdataset.writer import TarWriter  # not at the top: it imports torch

    layout = LAYOUTS[task.layout]
    source = open_place(task.source)
    class_pixels = np.zeros(NUM_CLASSES, np.int64)
    rejected = []
    with (
        local.open("wb") as file,
        TarWriter(file, user="", group="", mtime=0, encoder=False) as tar,
    ):
        for item in task.items:
            try:
                raw = layout.read(source, item)
                if not raw.labels.any():
                    raise RejectedError("nothing is labelled")
            except RejectedError as error:
                rejected.append(Rejection(item.source, str(error)))
                continue
            tar.write({"__key__": item.key, **encode_sample(item, raw, task.layout)})
            class_pixels += np.bincount(raw.labels.ravel(), minlength=NUM_CLASSES)
    return tuple(class_pixels.tolist()), tuple(rejected)


def _describe(path: str, local: Path, num_samples: int) -> Shard:
    with local.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Shard(path, sha256, local.stat().st_size, num_samples)


def _finished_record(task: ShardTask, out: Place) -> ShardRecord | None:
    """The record of an earlier, interrupted run, if its shard is whole and need not be redone."""
    try:
        record = _parse_record(json.loads(out.read(task.record_path)))
        if record.digest != task.digest or record.rejected or record.shard is None:
            return None  # what was rejected may have been repaired since
        shard_bytes = out.read(task.path)
    except FileNotFoundError:
        return None
    sha256 = hashlib.file_digest(io.BytesIO(shard_bytes), "sha256").hexdigest()
    return record if sha256 == record.shard.sha256 else None


def _parse_record(content: dict[str, Any]) -> ShardRecord:
    return ShardRecord(
        split=content["split"],
        digest=content["digest"],
        shard=Shard(**content["shard"]) if content["shard"] else None,
        class_pixels=tuple(content["class_pixels"]),
        rejected=tuple(Rejection(**rejection) for rejection in content["rejected"]),
    )
