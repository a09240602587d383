"""A few faces in memory: of shards, or drawn, for experiments that need no more."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.storage.datasets import DEMO_NAME, ShardedData
from cluster.storage.shard_cache import DatasetShard, fetch_shards
from cluster.storage.sharded_faces import UNLIMITED_PX
from sharding.layouts.splits import SPLITS
from sharding.packing.building import Recipe, build
from sharding.procedural.raw_faces import write_faces
from stn_icnn.data.batch import Sample
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import LabelSet


@dataclass(frozen=True)
class FewFaces:
    """Faces, with truth."""

    name: str
    """Of their data set."""
    fingerprint: str | None
    """Of its manifest; None: drawn, and always the same."""
    samples: list[Sample]


def few_faces(data: str | None, split: str, num: int) -> FewFaces:
    """Reads the first faces of a split, or draws some, 512 x 512 px.

    Args:
        data: shards, a folder or `s3://BUCKET/PREFIX`; None: faces are drawn.
        split: of the shards.
        num: of faces; fewer, if there are fewer.

    Raises:
        ValueError: where there is no such data set, or the split is empty.
    """
    if data is not None:
        opened = ShardedData.open(data)
        samples = _read(opened.shards(split), opened.manifest.label_set, num)
        return FewFaces(opened.name, opened.manifest.fingerprint, samples)
    with tempfile.TemporaryDirectory(prefix="stn-icnn-faces-") as folder:
        raw, out = Path(folder) / "raw", Path(folder) / "shards"
        write_faces("celebamask", num, raw, workers=1)
        build(raw, out, Recipe(layout="celebamask"))
        drawn = ShardedData.open(str(out))
        shards = [shard for some in SPLITS for shard in drawn.shards_or_none(some)]
        return FewFaces(DEMO_NAME, None, _read(shards, drawn.manifest.label_set, num))


def _read(shards: Sequence[DatasetShard], label_set: LabelSet, num: int) -> list[Sample]:
    faces = ShardedFaces(fetch_shards(shards), label_set, canvas_px=UNLIMITED_PX)
    return [faces[Request(i)] for i in range(min(num, len(faces)))]
