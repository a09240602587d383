"""The sharded data sets that jobs read, and the one that the demo makes for itself."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import sharding.procedural.raw_faces
from cluster.config import Reading
from cluster.storage.dataset_shard import DatasetShard
from cluster.storage.job_locations import readable_location
from sharding.manifest import FORMAT_VERSION, MANIFEST, Manifest, load_manifest
from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.storage.location import Address
from stn_icnn.networks.checkpoint import DataFacts
from stn_icnn.storage import StorageLocation

DEMO_FACES = 300
DEMO_NAME = "procedural"


@dataclass(frozen=True)
class ShardedData:
    """A finished data set: its location and its manifest."""

    location: StorageLocation
    manifest: Manifest
    name: str
    """The name in reports and models: the manifest's `dataset`, or `procedural`."""
    verify_shards: bool = True
    """Whether each node compares shards in a folder with their digests, once."""
    reading: Reading = "auto"
    """How its training split is read."""

    @classmethod
    def open(
        cls,
        address: Address,
        name: str | None = None,
        *,
        verify_shards: bool = True,
        reading: Reading = "auto",
    ) -> "ShardedData":
        """Reads a data set's manifest.

        Args:
            address: a folder or `s3://bucket/prefix`.
            name: its name in reports and models; None: the manifest's `dataset`.
            verify_shards: whether shards in a folder are compared with their digests.
            reading: how its training split is read.

        Raises:
            ValueError: where there is none, it is unfinished or of another version.
        """
        location = readable_location(address, "data")
        manifest = load_manifest(location)
        return cls(location, manifest, name or manifest.dataset, verify_shards, reading)

    @property
    def facts(self) -> DataFacts:
        """The facts about the data set that a model file states."""
        scale = self.manifest.scale
        return DataFacts(
            dataset=self.name,
            fingerprint=self.manifest.fingerprint,
            scale_px=scale.px,
            scale_fit=scale.fit,  # type: ignore[arg-type]
        )

    def shards(self, split: str) -> tuple[DatasetShard, ...]:
        """Returns a split's shards.

        Raises:
            ValueError: where the split holds no face.
        """
        shards = self.shards_or_none(split)
        if not shards:
            raise ValueError(
                f"{self.location.url} has no faces in its split {split!r}; it has "
                f"{self.manifest.num_samples}; shard with another --split"
            )
        return shards

    def shards_or_none(self, split: str) -> tuple[DatasetShard, ...]:
        """Returns a split's shards, if it has any."""
        shards = self.manifest.splits.get(split, ())
        return tuple(
            DatasetShard(**vars(shard), location=self.location) for shard in shards if shard.samples
        )


def demo_data(storage: StorageLocation) -> ShardedData:
    """Returns the demo's data set; draws and shards it in the storage where it is not there yet."""
    out = storage.child(f"demo-faces-{DEMO_FACES}-v{FORMAT_VERSION}")
    if not out.exists(MANIFEST):
        with tempfile.TemporaryDirectory() as raw:
            print(f"drawing {DEMO_FACES} procedural faces", flush=True)
            sharding.procedural.raw_faces.write_faces("helen", DEMO_FACES, Path(raw))
            build(raw, out, Recipe(layout="helen"))
    return ShardedData.open(out, DEMO_NAME)
