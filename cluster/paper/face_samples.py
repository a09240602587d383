"""A few faces in memory, for experiments that need no more: read from shards, or drawn."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.storage.dataset_shard import DatasetShard
from cluster.storage.datasets import DEMO_NAME, ShardedData
from cluster.storage.shard_cache import fetch_shards
from cluster.storage.sharded_faces import UNLIMITED_PX
from sharding.layouts.splits import SPLITS
from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.procedural.raw_faces import write_faces
from stn_icnn.data.batch import Batch
from stn_icnn.data.plan import Request
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import LabelSet


@dataclass(frozen=True)
class FaceSamples:
    """The first faces of a data set, with truth."""

    dataset: str
    """Name of the data set."""
    fingerprint: str | None
    """The manifest's fingerprint; None for drawn faces, which are always the same."""
    samples: list[Batch]
    """Batches of one face each."""
    data: ShardedData | None
    """The data set; None where faces are drawn."""


def load_face_samples(
    data: str | None, split: str, num_faces: int, verify_shards: bool = True
) -> FaceSamples:
    """Reads the first faces of a split, or draws faces of 512 x 512 px.

    Args:
        data: shards, a folder or `s3://BUCKET/PREFIX`; None: faces are drawn.
        split: the split of the shards.
        num_faces: number of faces; a split that has fewer gives all of them.
        verify_shards: whether shards in a folder are compared with their digests.

    Raises:
        ValueError: where there is no such data set, or the split is empty.
    """
    if data is not None:
        opened = ShardedData.open(data)
        samples = _read(opened.shards(split), opened.manifest.label_set, num_faces, verify_shards)
        return FaceSamples(opened.name, opened.manifest.fingerprint, samples, opened)
    with tempfile.TemporaryDirectory(prefix="stn-icnn-faces-") as folder:
        raw, out = Path(folder) / "raw", Path(folder) / "shards"
        write_faces("celebamask", num_faces, raw, workers=1)
        build(raw, out, Recipe(layout="celebamask"))
        drawn = ShardedData.open(str(out))
        shards = [shard for split in SPLITS for shard in drawn.shards_or_none(split)]
        samples = _read(shards, drawn.manifest.label_set, num_faces, verify=False)
        return FaceSamples(DEMO_NAME, None, samples, None)


def _read(
    shards: Sequence[DatasetShard], label_set: LabelSet, num_faces: int, verify: bool
) -> list[Batch]:
    faces = ShardedFaces(fetch_shards(shards, verify=verify), label_set, canvas_px=UNLIMITED_PX)
    return [faces[Request(i)] for i in range(min(num_faces, len(faces)))]
