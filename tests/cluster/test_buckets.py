"""A training without a shared disk: shards and storage lie in a bucket of a real server."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config import Reading
from cluster.storage.datasets import ShardedData
from cluster.training.run_record import RunRecord
from cluster.training.worker import TrainTask, train_on_worker
from cluster.workers.allocation import WorkerAllocation
from cluster.workers.launch import run_on_workers
from sharding.storage.location import open_location
from stn_icnn.config import TrainConfig
from stn_icnn.context import TrainReport
from stn_icnn.networks.checkpoint import load_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TWO_WORKERS = WorkerAllocation(
    num_workers=2, cpus_per_worker=1, use_gpu=False, loader_processes=0, max_failures=0
)


@pytest.mark.parametrize("reading", ["copy", "stream"])
def test_a_phase_is_trained_from_a_bucket_into_a_bucket(
    reading: Reading,
    shards: Path,
    tiny_config: TrainConfig,
    bucket: str,
    ray_cluster: str,
    ray_cache: Path,
    answered: Callable[[], list[tuple[str, str]]],
):
    shutil.rmtree(ray_cache / "shards", ignore_errors=True)
    place = open_location(f"{bucket}/set")
    for path in open_location(shards).list():
        place.upload((shards / path).open("rb"), path)
    data = ShardedData.open(place.url, reading=reading)
    config = replace(tiny_config, optim=replace(tiny_config.optim, epochs_coarse=1))
    record = RunRecord.open(open_location(f"{bucket}/runs/one"), config, data.manifest.fingerprint)
    task = TrainTask(
        phase="coarse",
        config=config,
        data=data,
        start=None,
        loader_processes=0,
    )
    reports: list[TrainReport] = []
    result = run_on_workers(
        train_on_worker,
        task,
        name="coarse",
        storage=record.storage,
        allocation=TWO_WORKERS,
        on_report=reports.append,
    )
    assert result.return_value is None
    assert [report.epoch for report in reports] == [1]
    assert load_checkpoint(record.model("coarse")).data == data.facts
    kept = record.storage.list("coarse/epoch_0001")
    assert {"coarse/epoch_0001/model.pt", "coarse/epoch_0001/state.pt"} <= set(kept)
    train, val = data.shards("train"), data.shards("val")
    assert {path.name for path in (ray_cache / "shards").glob("*.tar")} == {
        f"{shard.sha256}.tar" for shard in (val if reading == "stream" else train + val)
    }
    requested = Counter(path for method, path in answered() if method == "GET" and ".tar" in path)
    assert set(requested) == {f"/faces/set/{shard.path}" for shard in train + val}
    at_most = 2 if reading == "stream" else 1  # one shard may be both workers'
    assert max(requested.values()) <= at_most
