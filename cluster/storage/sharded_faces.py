"""Opens the faces of shards, which are fetched to this node first."""

from collections import Counter
from dataclasses import replace

from cluster.storage.shard_cache import DatasetShard, fetch_shards, require_samples
from stn_icnn.config import TrainConfig
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.labels import LabelSet

UNLIMITED_PX = 2**16


def read_faces(
    shards: tuple[DatasetShard, ...],
    label_set: LabelSet,
    config: TrainConfig,
    *,
    augmented: bool = False,
    with_labels: bool = True,
    quiet: bool = False,
) -> ShardedFaces:
    """Fetches shards to this node and opens their faces as training or scoring reads them.

    Args:
        shards: the shards of one split.
        label_set: the classes and parts of the faces, as the shards' manifest names them.
        config: gives the seed, the limit of the canvas and, where asked for, the augmentation.
        augmented: whether faces are augmented as `config` says.
        with_labels: whether their label maps are read too.
        quiet: whether no progress is printed.

    Raises:
        ValueError: a shard is not as its manifest says; the message names it.
        OSError: shards cannot be fetched to this node.
    """
    paths = fetch_shards(shards, quiet=quiet)
    faces = ShardedFaces(
        paths,
        label_set,
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
