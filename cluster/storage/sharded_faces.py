"""Opens the faces of shards, which are fetched to this node first, or streamed."""

from collections import Counter
from dataclasses import replace

import torch

from cluster.storage.datasets import ShardedData
from cluster.storage.shard_cache import fetch_shards, fit_cache, require_samples
from sharding.layouts.splits import SPLITS
from stn_icnn.config import TrainConfig
from stn_icnn.context import TrainContext
from stn_icnn.data.epochs import TrainingFaces
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.data.streaming import StreamedFaces
from stn_icnn.storage import Folder

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
        config: gives the label set, the seed, the limit of the canvas and, where asked for, the
            augmentation.
        augmented: whether faces are augmented as `config` says.
        with_labels: whether their label maps are read too.
        quiet: whether no progress is printed.

    Raises:
        ValueError: the split is empty, or lacks classes of the label set; or naming the shard that
            is not as its manifest says.
        OSError: shards cannot be fetched to this node.
    """
    shards = data.shards(split)
    paths = fetch_shards(shards, verify=data.verify_shards, quiet=quiet)
    faces = ShardedFaces(
        paths,
        config.model.label_set,
        augment=config.augment if augmented else None,
        seed=config.seed,
        canvas_px=config.model.canvas_px,
        with_labels=with_labels,
        stored=data.manifest.label_set,
    )
    require_samples(shards, paths, Counter(sample.shard for sample in faces.samples))
    return faces


def read_train_faces(
    data: ShardedData,
    config: TrainConfig,
    context: TrainContext,
    *,
    num_images: int | None = None,
    augmented: bool = False,
    with_labels: bool = True,
) -> TrainingFaces:
    """Opens the training split: copied to this node, as `read_faces` does it, or streamed.

    All ranks read it alike: it is streamed where one node can't hold it.

    Args:
        data: the data set, which says how its training split is read.
        config: as `read_faces` has it.
        context: the ranks that read it together.
        num_images: how many of its faces are read, chosen by the seed out of a copy of the whole
            split; None: all.
        augmented: as `read_faces` has it.
        with_labels: as `read_faces` has it.

    Raises:
        ValueError: as `read_faces` does; or for a limit of the cache that is no number.
        OSError: shards cannot be fetched to this node.
    """
    quiet = context.rank > 0
    if num_images is not None or not _streams(data, context):
        faces = read_faces(
            data, "train", config, augmented=augmented, with_labels=with_labels, quiet=quiet
        )
        if num_images is not None:
            faces.select(num_images, config.seed)
        return faces
    shards = data.shards("train")
    if not quiet:
        size = sum(shard.bytes for shard in shards) / 1e9
        print(f"streaming the training split, {size:.3g} GB", flush=True)
    return StreamedFaces(
        shards,
        config.model.label_set,
        augment=config.augment if augmented else None,
        seed=config.seed,
        canvas_px=config.model.canvas_px,
        with_labels=with_labels,
        stored=data.manifest.label_set,
    )


def _streams(data: ShardedData, context: TrainContext) -> bool:
    """Decides how the training split is read, alike on all ranks."""
    if data.reading != "auto":
        return data.reading == "stream"
    if isinstance(data.location, Folder):
        return False
    # The others are copied however large they are: a score is that of the whole split.
    fit = fit_cache([shard for split in SPLITS for shard in data.shards_or_none(split)])
    return context.sum_(torch.tensor(float(not fit), device=context.device)).item() > 0


def unlimited_canvas(config: TrainConfig) -> TrainConfig:
    """Returns a config without the limit of the canvas, which saves memory in training alone."""
    return replace(config, model=replace(config.model, canvas_px=UNLIMITED_PX))
