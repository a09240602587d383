"""Opens the faces of shards, which are fetched to this node first."""

from collections import Counter
from dataclasses import replace

from cluster.storage.datasets import ShardedData
from cluster.storage.shard_cache import fetch_shards, require_samples
from stn_icnn.config import TrainConfig
from stn_icnn.data.shards import ShardedFaces

UNLIMITED_PX = 2**16


def read_faces(
    data: ShardedData,
    split: str,
    config: TrainConfig,
    *,
    augmented: bool = False,
    with_labels: bool = True,
    quiet: bool = False,
) -> ShardedFaces:
    """Fetches a split to this node and opens its faces as training or scoring reads them.

    Args:
        data: the data set.
        split: which split of it.
        config: gives the seed, the limit of the canvas and, where asked for, the augmentation.
        augmented: whether faces are augmented as `config` says.
        with_labels: whether their label maps are read too.
        quiet: whether no progress is printed.

    Raises:
        ValueError: the split is empty; or naming the shard that is not as its manifest says.
        OSError: shards cannot be fetched to this node.
    """
    shards = data.shards(split)
    paths = fetch_shards(shards, verify=data.verify_shards, quiet=quiet)
    faces = ShardedFaces(
        paths,
        data.manifest.label_set,
        augment=config.augment if augmented else None,
        seed=config.seed,
        canvas_px=config.model.canvas_px,
        with_labels=with_labels,
    )
    require_samples(shards, paths, Counter(sample.shard for sample in faces.samples))
    return faces


def unlimited_canvas(config: TrainConfig) -> TrainConfig:
    """Returns a config without the limit of the canvas, which saves memory in training alone."""
    return replace(config, model=replace(config.model, canvas_px=UNLIMITED_PX))
