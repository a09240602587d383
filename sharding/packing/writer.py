"""Writes one shard; shards know nothing of each other, so any process may write any of them."""

import dataclasses
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharding.layouts import celebamask, folder, helen, helen_relabeled, lapa
from sharding.layouts.raw import Item, Layout, RawSample
from sharding.manifest import MANIFEST, PARTS_FOLDER, Rejection, Shard, Sides, digest_of
from sharding.packing.sample import count_classes, count_sides, encode_sample, measure_parts
from stn_icnn.decoding import RejectedError, described
from stn_icnn.label_set_file import label_set_of
from stn_icnn.label_sets import PAPER9
from stn_icnn.labels import LabelSet
from stn_icnn.storage import ReadableLocation, StorageLocation

LAYOUTS: dict[str, Layout] = {
    module.LAYOUT.name: module.LAYOUT
    for module in (celebamask, helen, helen_relabeled, lapa, folder)
} | folder.IN_ORDER
"""The layouts by name; another form of one is named `LAYOUT:FORM`."""


@dataclass(frozen=True)
class ShardTask:
    """The items of one shard, with where they come from and go to: plain data for any process.

    Attributes:
        layout: a key of `LAYOUTS`.
        labels: the label set, as `label_set_of` takes it.
        source: the location of the raw data set.
        out: the location of the sharded data set.
        split: `train`, `val` or `test`.
        index: the shard's number in its split.
        items: consecutive items of the split.
        left_out: (key, reason) of items that another split has too. None as long as they are not
            known: then a finished shard is accepted, whatever it leaves out.
    """

    layout: str
    labels: str
    source: ReadableLocation
    out: StorageLocation
    split: str
    index: int
    items: tuple[Item, ...]
    left_out: tuple[tuple[str, str], ...] | None = None

    @property
    def path(self) -> str:
        """The shard's path in the data set."""
        return f"{self.split}/{self.index:06d}.tar"

    @property
    def record_path(self) -> str:
        """The path of the shard's record, which lies there until the manifest is written."""
        return f"{PARTS_FOLDER}/{self.split}-{self.index:06d}.json"

    @property
    def digest(self) -> str:
        """A digest of the shard's items, the same wherever the raw data set lies."""
        # Without the masks that a listing found: a repaired one must not make it another plan.
        items = [(item.key, item.source, item.split) for item in self.items]
        content = [self.layout, self.path, items, self.left_out or ()]
        return digest_of(content if self.labels == PAPER9.name else [*content, self.labels])

    @property
    def label_set(self) -> LabelSet:
        """The classes of the shard's labels."""
        return label_set_of(self.labels)


@dataclass(frozen=True)
class ShardRecord:
    """The outcome of a task.

    Attributes:
        path: the shard's path in the data set.
        digest: the task's digest.
        num_items: number of items of the task.
        shard: the written shard, or None where every item was rejected.
        class_pixels: number of pixels of each class.
        class_faces: number of faces that show each class.
        num_soft_masks: number of faces with masks that had to be cut.
        sides: of each pair of parts, by their fine network.
        sha256: by key, the digests of the raw images that can be used, also if they are left out.
        left_out: the task's `left_out`.
        rejected: the items that can't be used or are left out, in order.
        was_there: whether an earlier run wrote the shard.
    """

    path: str
    digest: str
    num_items: int
    shard: Shard | None
    class_pixels: tuple[int, ...]
    class_faces: tuple[int, ...]
    num_soft_masks: int
    sides: Mapping[str, Sides]
    sha256: Mapping[str, str]
    left_out: tuple[tuple[str, str], ...]
    rejected: tuple[Rejection, ...]
    was_there: bool = False


def write_shard(task: ShardTask) -> ShardRecord:
    """Writes the task's shard and its record, or finds both already there.

    The shard is built in a local file and uploaded whole; its record follows. The local file has no
    name, so that the system removes it however this process ends.

    Raises:
        ValueError: another run has finished the data set meanwhile, which must not change now.
    """
    out = task.out
    record = _finished_record(task)
    if record is not None:
        return record
    with tempfile.TemporaryFile() as local:
        record = _write_tar(task, local)
        if out.exists(MANIFEST):  # this task outlived its job, which another run has finished
            raise ValueError(f"{out.url} has been finished by another run")
        if record.shard:
            out.upload(local, task.path)
    out.write(task.record_path, json.dumps(dataclasses.asdict(record)).encode())
    return record


def _write_tar(task: ShardTask, local: io.BufferedRandom) -> ShardRecord:
    """Writes to a local file the items that can be used and are not left out."""
    left_out, label_set = dict(task.left_out or ()), task.label_set
    class_pixels = np.zeros(label_set.num_classes, np.int64)
    class_faces = np.zeros_like(class_pixels)
    faces, sha256, rejected, num_soft_masks = [], {}, [], 0
    with tarfile.open(fileobj=local, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for item in task.items:
            try:
                sample = _prepare(task, item)
            except RejectedError as error:
                rejected.append(Rejection(item.source, str(error)))
                continue
            sha256[item.key] = sample.raw.sha256
            if item.key in left_out:
                rejected.append(Rejection(item.source, left_out[item.key]))
                continue
            _add_sample(tar, item.key, sample.members)
            class_pixels += sample.class_pixels
            class_faces += sample.class_pixels > 0
            num_soft_masks += sample.raw.has_soft_masks
            faces.append(sample.parts)
    return ShardRecord(
        path=task.path,
        digest=task.digest,
        num_items=len(task.items),
        shard=_describe(task.path, local, len(faces)) if faces else None,
        class_pixels=tuple(class_pixels.tolist()),
        class_faces=tuple(class_faces.tolist()),
        num_soft_masks=num_soft_masks,
        sides=count_sides(faces, label_set),
        sha256=sha256,
        left_out=task.left_out or (),
        rejected=tuple(rejected),
    )


def _add_sample(tar: tarfile.TarFile, key: str, members: Mapping[str, bytes]) -> None:
    """Adds a sample's members as webdataset reads them, with no date or owner, for equal bytes.

    webdataset's own writer does the same, but imports torch into every process.
    """
    for extension, data in members.items():
        info = tarfile.TarInfo(f"{key}.{extension}")
        info.size, info.mode = len(data), 0o444
        tar.addfile(info, io.BytesIO(data))


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A face that can be used, before it is written.

    Attributes:
        raw: the face as it was read.
        parts: the result of `measure_parts`.
        class_pixels: number of pixels of each class, int64 [C].
        members: the members of its sample, by extension.
    """

    raw: RawSample
    parts: Mapping[str, Sequence[float]]
    class_pixels: NDArray[np.int64]
    members: Mapping[str, bytes]


def _prepare(task: ShardTask, item: Item) -> _Prepared:
    """Reads, measures and encodes one face.

    Raises:
        RejectedError: the face cannot be used, whatever goes wrong with it.
        OSError: disk or network failed, as it would for every face.
    """
    layout = LAYOUTS[task.layout]
    with _rejecting(but=(OSError,)):
        raw = layout.read(task.source, item, task.label_set)
    if not raw.labels.any():
        raise RejectedError(
            "nothing labelled: all masks are empty, or one covers all others as if inverted"
        )
    with _rejecting():  # in memory, where an OSError is Pillow's word for what it cannot encode
        parts = measure_parts(raw.labels, task.label_set)
        class_pixels = count_classes(raw.labels, task.label_set)
        members = encode_sample(item, raw, parts, layout.name)
        return _Prepared(raw, parts, class_pixels, members)


@contextmanager
def _rejecting(but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turns an error that nobody foresaw into a RejectedError: one face must not end the run.

    Args:
        but: errors that every face would meet, which pass, as does a lack of memory.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (RejectedError, MemoryError, *but)):
            raise
        raise RejectedError(f"sample fails: {described(error)}") from error


def _describe(path: str, local: io.BufferedRandom, num_samples: int) -> Shard:
    num_bytes = local.tell()
    local.seek(0)
    return Shard(path, hashlib.file_digest(local, "sha256").hexdigest(), num_bytes, num_samples)


def _finished_record(task: ShardTask) -> ShardRecord | None:
    """Returns the record of an earlier, interrupted run, if its shard is whole and still right."""
    try:
        record = _parse_record(json.loads(task.out.read(task.record_path)))
        if task.left_out is None:
            task = dataclasses.replace(task, left_out=record.left_out)
        if record.digest != task.digest or not _still_rejected(task, record):
            return None
        shard_bytes = task.out.read(task.path) if record.shard else b""
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    sha256 = hashlib.sha256(shard_bytes).hexdigest()
    return record if not record.shard or sha256 == record.shard.sha256 else None


def _still_rejected(task: ShardTask, record: ShardRecord) -> bool:
    """Tells whether items that could not be used still can't: they may have been repaired."""
    reasons = {rejection.source: rejection.reason for rejection in record.rejected}
    for item in task.items:
        if item.key not in record.sha256:
            try:
                _prepare(task, item)
            except RejectedError as error:
                if str(error) == reasons[item.source]:
                    continue
            return False
    return True


def _parse_record(content: dict[str, Any]) -> ShardRecord:
    parsed = {
        "shard": Shard(**content["shard"]) if content["shard"] else None,
        "class_pixels": tuple(content["class_pixels"]),
        "class_faces": tuple(content["class_faces"]),
        "sides": {pair: Sides(**sides) for pair, sides in content["sides"].items()},
        "left_out": tuple((key, reason) for key, reason in content["left_out"]),
        "rejected": tuple(Rejection(**rejection) for rejection in content["rejected"]),
        "was_there": True,
    }
    return ShardRecord(**content | parsed)
