"""Raw data sets into webdataset shards with a manifest; verify, inspect, procedural faces."""

from sharding.packing.building import Recipe, build
from sharding.packing.manifest import Manifest, load_manifest
from sharding.storage.location import Place, open_place, open_shard

__all__ = ["Manifest", "Place", "Recipe", "build", "load_manifest", "open_place", "open_shard"]
