"""The sharding job's own part, without a cluster: where the raw data lie, what to type next."""

import json
import sys
from pathlib import Path

import pytest

from cluster import sharding_job
from jobs.running import run_job
from jobs.shard import job
from sharding.manifest import load_manifest
from sharding.procedural.raw_faces import write_faces


@pytest.fixture
def shard(monkeypatch: pytest.MonkeyPatch):
    """shard(arguments): the exit status of the job, whose tasks run in this process."""
    monkeypatch.setattr(sharding_job, "join_cluster", lambda: None)
    for check in ("require_readable", "require_shared"):
        monkeypatch.setattr(sharding_job, check, lambda *_: None)
    monkeypatch.setattr(sharding_job, "map_on_cluster", map)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["jobs/shard.py", *map(str, arguments)])
        return run_job(job)

    return run


def test_a_folder_is_sharded_from_its_two_places(
    shard, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They may be relative, which means nothing to a worker elsewhere."""
    write_faces("folder", 10, tmp_path, size_px=64, workers=1)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    assert (
        shard(
            "folder", "--images", "images", "--masks", "masks", "--labels", "helen11", "--out", out
        )
        == 0
    )
    *_, last = printed = capsys.readouterr().out.splitlines()
    assert json.loads(last)["num_samples"] == {"train": 8, "val": 1, "test": 1}
    train = f"jobs/e2e.py helen --data {out} --labels helen11"
    assert any(line.endswith(train) for line in printed)
    assert load_manifest(out).dataset == "folder"
