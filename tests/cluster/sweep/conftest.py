"""The settings of a small sweep."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config import LocationsConfig, ScalingConfig
from cluster.sweep.config import SweepConfig, SweepJobConfig
from stn_icnn.config import FineConfig, TrainConfig
from tests.sweeps import NUM_EPOCHS


@pytest.fixture(scope="module")
def settings(
    shards: Path,
    tiny_config: TrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
    new_store: Callable[[Path], str],
) -> SweepJobConfig:
    folder = tmp_path_factory.mktemp("sweep")
    optim = replace(tiny_config.optim, epochs_fine=NUM_EPOCHS)
    config = replace(tiny_config, optim=optim, fine=FineConfig(networks=("eye",)))
    return SweepJobConfig(
        training=config,
        data=str(shards),
        locations=LocationsConfig(storage=str(folder / "storage"), tracking_uri=new_store(folder)),
        run_name="tiny",
        scaling=ScalingConfig(num_workers=1, cpus_per_worker=1),
        num_trials=3,
        sweep=SweepConfig(),
        space=("model.patch_px.eye=9 13 17", "optim.lr_fine=log 1e-3 1e-1"),
    )
