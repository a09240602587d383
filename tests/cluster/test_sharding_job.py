"""Sharding on a real Ray cluster."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sharding.packing.building import Recipe, build
from sharding.procedural.raw_faces import write_faces

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


def finished_shards(out: Path) -> dict[str, int]:
    """Those with a record, each with when it was written."""
    records = (path.stem.split("-") for path in out.glob(".parts/*-*.json"))
    shards = [f"{split}/{number}.tar" for split, number in records]
    return {shard: (out / shard).stat().st_mtime_ns for shard in shards}


def test_job_whose_driver_is_killed_is_finished_by_the_same_command(tmp_path: Path) -> None:
    """Killed with no warning while one task, held up by a pipe in the place of its image, runs."""
    raw, straight, out = tmp_path / "raw", tmp_path / "straight", tmp_path / "out"
    write_faces("helen", 10, raw, size_px=64, workers=1)
    build(raw, straight, Recipe(layout="helen", shard_size=1))
    job = [sys.executable, "jobs/shard.py", "helen", "--source", str(raw), "--out", str(out)]
    job += ["--shard-size", "1"]
    pipe = raw / "images/000004_1.jpg"
    image = pipe.read_bytes()
    pipe.unlink()
    os.mkfifo(pipe)
    with subprocess.Popen(job) as run:
        try:
            while len(finished_shards(out)) < 3:
                assert run.poll() is None
                time.sleep(0.02)
        finally:
            run.kill()
    finished = finished_shards(out)
    pipe.unlink()
    pipe.write_bytes(image)
    subprocess.run(job, check=True)
    assert contents(out) == contents(straight)
    assert {shard: (out / shard).stat().st_mtime_ns for shard in finished} == finished


def test_refused_job_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").write_text("mine")
    raw = tmp_path / "raw"
    write_faces("helen", 3, raw, size_px=64, workers=1)
    for source, out in ((tmp_path / "none", tmp_path / "new"), (raw, tmp_path / "theirs")):
        command = [sys.executable, "jobs/shard.py", "helen"]
        command += ["--source", str(source), "--out", str(out)]
        assert subprocess.run(command, check=False, capture_output=True).returncode == 2
    assert list((tmp_path / "new").iterdir()) == []
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["notes.txt"]
