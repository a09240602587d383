"""Tiny data and settings that several packages' tests share."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sharding.building import Recipe, build
from sharding.faces import write_faces
from stn_icnn.config import AugmentConfig, ModelConfig, OptimConfig, PartSizes, TrainConfig
from stn_icnn.data import ShardedFaces

SPLITS = {"train": range(8), "val": range(8, 10), "test": range(10, 12)}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny tensors are no faster on many threads, and sums no longer depend on how many."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sharded data set of procedural faces, 73 to 119 px: 8 to train on, 2 and 2 held out."""
    root = tmp_path_factory.mktemp("faces")
    write_faces("helen", 12, root / "raw", size_px=96, workers=1)
    names = {split: [f"{i:06d}_1" for i in some] for split, some in SPLITS.items()}
    (root / "split.json").write_text(json.dumps(names))
    build(
        root / "raw",
        root / "shards",
        Recipe(layout="helen", split=str(root / "split.json"), shard_size=3),
    )
    return root / "shards"


@pytest.fixture(scope="session")
def tiny_config() -> TrainConfig:
    """A training of seconds: no augmentation but the paper's, two epochs a phase."""
    return TrainConfig(
        model=ModelConfig(
            coarse_px=32,
            window_px=PartSizes(brow=33, eye=33, nose=41, mouth=49),
            patch_px=PartSizes(brow=17, eye=17, nose=21, mouth=25),
        ),
        augment=AugmentConfig(rotation_deg=5, shift=0.05, scale_min=0.95, scale_max=1.05),
        optim=OptimConfig(global_batch=4, epochs_coarse=2, epochs_localizer=2, epochs_end_to_end=2),
        precision="fp32",
    )


@pytest.fixture
def tiny_faces(shards: Path, tiny_config: TrainConfig) -> Callable[[str, bool], ShardedFaces]:
    """tiny_faces(split, augmented): the faces of a split of `shards`."""

    def faces(split: str, augmented: bool = False) -> ShardedFaces:
        return ShardedFaces(
            [str(path) for path in sorted((shards / split).glob("*.tar"))],
            augment=tiny_config.augment if augmented else None,
            seed=tiny_config.seed,
        )

    return faces
