"""Sharding on a real Ray cluster."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sharding.faces import write_faces

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_cluster_writes_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    raw, here, there = tmp_path / "raw", tmp_path / "here", tmp_path / "there"
    write_faces("helen", 10, raw, size_px=64, workers=1)
    (raw / "images" / "000001_1.jpg").write_bytes(b"")
    settings = ["helen", "--source", str(raw), "--shard-size", "2", "--max-rejected", "0.2"]
    alone = [sys.executable, "-m", "sharding", *settings, "--out", str(here), "--workers", "1"]
    subprocess.run(alone, check=True, capture_output=True)
    spread = [sys.executable, "jobs/shard.py", *settings, "--out", str(there)]
    job = subprocess.run(spread, check=True, capture_output=True, text=True)
    assert contents(here) == contents(there)
    result = json.loads(job.stdout.splitlines()[-1])
    assert result["num_samples"] == {"train": 7, "val": 1, "test": 1}
    assert result["num_rejected"] == 1
