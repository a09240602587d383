"""Sharding on a real Ray cluster."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.running import run_job
from jobs.shard import job
from sharding.packing.building import build
from sharding.packing.recipe import Recipe
from sharding.procedural.raw_faces import write_faces

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def shard(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """shard(arguments): the exit status of the command, run in this process and its cluster."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["jobs/shard.py", *arguments])
        return run_job(job)

    return run


def test_cluster_writes_the_same_bytes_as_one_process(
    shard: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, here, there = tmp_path / "raw", tmp_path / "here", tmp_path / "there"
    write_faces("helen", 10, raw, size_px=64, workers=1)
    (raw / "images" / "000001_1.jpg").write_bytes(b"")
    settings = ["helen", "--source", str(raw), "--shard-size", "2", "--max-rejected", "0.2"]
    alone = [sys.executable, "-m", "sharding", *settings, "--out", str(here), "--workers", "1"]
    subprocess.run(alone, check=True, capture_output=True)
    assert shard(*settings, "--out", str(there)) == 0
    assert contents(here) == contents(there)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["num_samples"] == {"train": 7, "val": 1, "test": 1}
    assert result["num_rejected"] == 1


def finished_shards(out: Path) -> dict[str, int]:
    """Those with a record, each with when it was written."""
    records = (path.stem.split("-") for path in out.glob(".parts/*-*.json"))
    shards = [f"{split}/{number}.tar" for split, number in records]
    return {shard: (out / shard).stat().st_mtime_ns for shard in shards}


def test_job_whose_driver_is_killed_is_finished_by_the_same_command(
    shard: Callable[..., int], tmp_path: Path, wait_until
) -> None:
    """Killed with no warning, with a cluster of its own, and finished on another."""
    raw, straight, out = tmp_path / "raw", tmp_path / "straight", tmp_path / "out"
    write_faces("helen", 40, raw, size_px=64, workers=1)
    build(raw, straight, Recipe(layout="helen", shard_size=1))
    arguments = ["helen", "--source", str(raw), "--out", str(out), "--shard-size", "1"]
    with subprocess.Popen([sys.executable, "jobs/shard.py", *arguments]) as run:
        try:
            wait_until(lambda: len(finished_shards(out)) >= 3, run)
        finally:
            run.kill()
    finished = finished_shards(out)
    assert len(finished) < 40
    assert shard(*arguments) == 0
    assert contents(out) == contents(straight)
    assert {shard: (out / shard).stat().st_mtime_ns for shard in finished} == finished


def test_refused_job_leaves_nothing_behind(shard: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").write_text("mine")
    raw = tmp_path / "raw"
    write_faces("helen", 3, raw, size_px=64, workers=1)
    for source, out in ((tmp_path / "none", tmp_path / "new"), (raw, tmp_path / "theirs")):
        assert shard("helen", "--source", str(source), "--out", str(out)) == 2
    assert list((tmp_path / "new").iterdir()) == []
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["notes.txt"]
