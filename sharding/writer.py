"""Writes one shard. Shards know nothing of each other, so any process may write any of them."""

import dataclasses
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sharding import celebamask, helen
from sharding.manifest import PARTS_FOLDER, Rejection, Shard, Sides, digest_of
from sharding.raw import Item, Layout, RawSample, RejectedError
from sharding.sample import count_sides, encode_sample, measure_parts
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
        left_out: (key, reason) of those of them that are rejected without a look.
    """

    layout: str
    source: str
    out: str
    split: str
    index: int
    items: tuple[Item, ...]
    left_out: tuple[tuple[str, str], ...] = ()

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
        # Not the masks that a listing found: one that is repaired must not make it another plan.
        items = [(item.key, item.source, item.split) for item in self.items]
        return digest_of([self.layout, self.path, items, self.left_out])


@dataclass(frozen=True)
class ShardRecord:
    """What came of a task.

    Attributes:
        split: `train`, `val` or `test`.
        digest: the task's.
        shard: the written shard, or None where every item was rejected.
        class_pixels: number of pixels of each class.
        sides: of `brow` and `eye`.
        sha256: by key, of the raw images that went in.
        rejected: the items left out.
    """

    split: str
    digest: str
    shard: Shard | None
    class_pixels: tuple[int, ...]
    sides: Mapping[str, Sides]
    sha256: Mapping[str, str]
    rejected: tuple[Rejection, ...]

    @property
    def num_items(self) -> int:
        """Items that were looked at."""
        return len(self.sha256) + len(self.rejected)


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
        record = _write_tar(task, local)
        if record.shard:
            out.upload(local, task.path)
    out.write(task.record_path, json.dumps(dataclasses.asdict(record)).encode())
    return record


def _write_tar(task: ShardTask, local: Path) -> ShardRecord:
    """Writes the items that can be read to a local file."""
    class_pixels = np.zeros(NUM_CLASSES, np.int64)
    faces, sha256, rejected = [], {}, []
    with tarfile.open(local, "w", format=tarfile.USTAR_FORMAT) as tar:
        for item in task.items:
            try:
                raw = _read(task, item)
            except RejectedError as error:
                rejected.append(Rejection(item.source, str(error)))
                continue
            parts = measure_parts(raw.labels)
            _add_sample(tar, item.key, encode_sample(item, raw, parts, task.layout))
            class_pixels += np.bincount(raw.labels.ravel(), minlength=NUM_CLASSES)
            faces.append(parts)
            sha256[item.key] = raw.sha256
    return ShardRecord(
        split=task.split,
        digest=task.digest,
        shard=_describe(task.path, local, len(sha256)) if sha256 else None,
        class_pixels=tuple(class_pixels.tolist()),
        sides=count_sides(faces),
        sha256=sha256,
        rejected=tuple(rejected),
    )


def _add_sample(tar: tarfile.TarFile, key: str, members: Mapping[str, bytes]) -> None:
    """Adds the members as webdataset reads them; of an archive's facts only names and sizes vary.

    webdataset's own writer does the same, and imports torch into every process.
    """
    for extension, data in members.items():
        info = tarfile.TarInfo(f"{key}.{extension}")
        info.size, info.mode = len(data), 0o444
        tar.addfile(info, io.BytesIO(data))


def _read(task: ShardTask, item: Item) -> RawSample:
    """One face; raises RejectedError."""
    for key, reason in task.left_out:
        if key == item.key:
            raise RejectedError(reason)
    raw = LAYOUTS[task.layout].read(open_place(task.source), item)
    if not raw.labels.any():
        raise RejectedError("nothing labelled: all masks are empty")
    return raw


def _describe(path: str, local: Path, num_samples: int) -> Shard:
    with local.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Shard(path, sha256, local.stat().st_size, num_samples)


def _finished_record(task: ShardTask, out: Place) -> ShardRecord | None:
    """The record of an earlier, interrupted run, if its shard is whole and need not be redone."""
    try:
        record = _parse_record(json.loads(out.read(task.record_path)))
        if record.digest != task.digest or not _still_rejected(task, record):
            return None
        shard_bytes = out.read(task.path) if record.shard else b""
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    sha256 = hashlib.sha256(shard_bytes).hexdigest()
    return record if not record.shard or sha256 == record.shard.sha256 else None


def _still_rejected(task: ShardTask, record: ShardRecord) -> bool:
    """Whether what was rejected would be so again: it may have been repaired since."""
    reasons = {rejection.source: rejection.reason for rejection in record.rejected}
    for item in task.items:
        if item.source in reasons:
            try:
                _read(task, item)
            except RejectedError as error:
                if str(error) == reasons[item.source]:
                    continue
            return False
    return True


def _parse_record(content: dict[str, Any]) -> ShardRecord:
    return ShardRecord(
        split=content["split"],
        digest=content["digest"],
        shard=Shard(**content["shard"]) if content["shard"] else None,
        class_pixels=tuple(content["class_pixels"]),
        sides={pair: Sides(**sides) for pair, sides in content["sides"].items()},
        sha256=content["sha256"],
        rejected=tuple(Rejection(**rejection) for rejection in content["rejected"]),
    )
