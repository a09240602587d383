"""Photographs parsed on a real Ray cluster, from and into folders and a real S3 server."""

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import ray.exceptions
import torch
from PIL import Image

import cluster.parsing.job
from cluster.config import ParsingJobConfig, ScalingConfig
from cluster.parsing.job import ParseTask, run_parsing
from cluster.workers.errors import PhaseFailedError
from sharding.storage.location import open_location
from stn_icnn.inference.face_parser import FaceParser
from stn_icnn.inference.model_sources import SHIPPED_MODEL
from stn_icnn.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from stn_icnn.networks.model import build_model
from stn_icnn.storage import Folder

NUM_TO_KILL = 160


def picture(seed: int, width: int = 60, height: int = 44) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def fill(url: str, names: list[str]) -> None:
    place = open_location(url)
    for seed, name in enumerate(names):
        place.write(name, picture(seed, width=40 + seed % 30))


def settings(model: Path, source: object, out: object, **others: Any) -> ParsingJobConfig:
    return ParsingJobConfig(model=str(model), input=str(source), out=str(out), **others)


def counts(result: dict[str, Any]) -> tuple[int, int, int]:
    return result["parsed"], result["skipped"], result["failed"]


@pytest.fixture
def other_model(tiny_parent: Path, tmp_path: Path) -> Path:
    """The same, but for its weights."""
    torch.manual_seed(1)
    known = load_checkpoint(tiny_parent)
    path = tmp_path / "other.pt"
    save_checkpoint(
        path, Checkpoint(build_model(known.config.model), known.config, known.data, known.phase)
    )
    return path


@pytest.mark.ray
@pytest.mark.slow
def test_bucket_is_parsed_once_and_what_cannot_be_read_is_listed_until_it_is_mended(
    ray_cluster: str, bucket: str, tiny_parent: Path, other_model: Path, capfd
) -> None:
    source, out = open_location(f"{bucket}/photos"), open_location(f"{bucket}/photos/parsed")
    names = {"a.png": "a", "b/a.png": "b/a", "b/c.jpg": "b/c.jpg", "b/c.png": "b/c.png"}
    fill(source.url, list(names))
    source.write("b/bad.jpg", b"not a photograph")
    source.write("notes.txt", b"not a photograph either")
    job = settings(tiny_parent, source.url, out.url, scaling=ScalingConfig(num_workers=2))

    result = run_parsing(job)
    assert result["out"] == out.url
    assert counts(result) == (4, 0, 1)
    assert result["photos_per_second"] > 0
    endings = (".png", "_overlay.jpg", "_windows.json")
    results = [f"{name}{ending}" for name in names.values() for ending in endings]
    assert out.list() == sorted([*results, "classes.json", "failed.json", "parse.json"])
    parser = FaceParser.load(tiny_parent, "cpu")
    for photo, name in names.items():
        face = parser.parse(Image.open(io.BytesIO(source.read(photo))))
        labels = np.asarray(Image.open(io.BytesIO(out.read(f"{name}.png"))))
        assert labels.shape == face.labels.shape
        assert (labels != face.labels).mean() < 2e-3
    assert json.loads(out.read("failed.json")) == [
        {"photo": "b/bad.jpg", "reason": "image does not decode: not an image"}
    ]
    printed = capfd.readouterr()
    assert "5 of 5 photographs" in printed.err
    assert "Running Dataset" not in printed.out + printed.err  # Ray Data's own bars

    with pytest.raises(ValueError, match=r"other settings \(model: \w+, was \w+\).* another --out"):
        run_parsing(settings(other_model, source.url, out.url))
    source.write("b/bad.jpg", picture(9))
    assert counts(run_parsing(job)) == (1, 4, 0)
    assert not out.exists("failed.json")
    assert counts(run_parsing(job)) == (0, 5, 0)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_job_goes_on_where_it_stopped(
    ray_cluster: str, tiny_parent: Path, tmp_path: Path, wait_until
) -> None:
    source, out = tmp_path / "photos", tmp_path / "out"
    names = [f"{i % 7}/{i:03d}.png" for i in range(NUM_TO_KILL)]
    names[-1] = os.fsdecode(b"0/0\xe9.png")  # of another encoding than the system's
    fill(str(source), names)
    command = [sys.executable, "jobs/parse.py", "--model", str(tiny_parent)]
    command += ["--input", str(source), "--out", str(out)]
    environment = {**os.environ, "RAY_ADDRESS": ray_cluster}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as first:
        wait_until(lambda: len(list(out.rglob("*_windows.json"))) >= NUM_TO_KILL // 10, first)
        first.send_signal(signal.SIGKILL)
    whole = {path: path.stat().st_ino for path in out.rglob("*_windows.json")}  # written last
    print(f"killed with {len(whole)} of {NUM_TO_KILL} done")
    assert len(whole) < NUM_TO_KILL

    again = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result = json.loads(again.stdout.splitlines()[-1])
    assert result["parsed"] + result["skipped"] == NUM_TO_KILL
    assert result["skipped"] >= len(whole)
    assert result["parsed"] > 0
    assert result["failed"] == 0
    labels = {str(p.relative_to(out)) for p in out.rglob("*.png") if not p.name.startswith(".")}
    assert labels == set(names)
    for ending in ("_overlay.jpg", "_windows.json"):
        assert len(list(out.rglob(f"[0-9]*{ending}"))) == NUM_TO_KILL
    assert {path: path.stat().st_ino for path in whole} == whole


@pytest.mark.ray
@pytest.mark.slow
def test_nothing_but_failures_is_a_failure(
    ray_cluster: str, tiny_parent: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"")
    with pytest.raises(PhaseFailedError, match=r"none of the 1 photographs .*/failed.json"):
        run_parsing(settings(tiny_parent, tmp_path / "in", tmp_path / "out"))


@pytest.mark.ray
@pytest.mark.slow
def test_a_result_that_cannot_be_written_is_listed_and_the_others_are(
    ray_cluster: str, tiny_parent: Path, tmp_path: Path
) -> None:
    fill(str(tmp_path / "in"), ["a.png", "b.png"])
    (tmp_path / "out" / "b.png").mkdir(parents=True)  # in the way
    result = run_parsing(settings(tiny_parent, tmp_path / "in", tmp_path / "out"))
    assert counts(result) == (1, 0, 1)
    [failed] = json.loads((tmp_path / "out" / "failed.json").read_text())
    assert failed["photo"] == "b.png"
    assert failed["reason"].startswith("labels not written: Is a directory")


class FullDisk(Folder):
    """A disk on which there is no more room."""

    def write(self, path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)


@pytest.mark.ray
@pytest.mark.slow
def test_a_full_disk_ends_the_job(
    ray_cluster: str, tiny_parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(str(tmp_path / "in"), ["a.png", "b.png"])

    class FullTask(ParseTask):
        def __init__(self, model: Any, source: Any, out: Folder, *others: Any) -> None:
            super().__init__(model, source, FullDisk(out.root), *others)

    monkeypatch.setattr(cluster.parsing.job, "ParseTask", FullTask)
    with pytest.raises(OSError, match=r"No space left.*the same command goes on"):
        run_parsing(settings(tiny_parent, tmp_path / "in", tmp_path / "out"))


class DyingTask(ParseTask):
    """Dies, once or always, or raises, at a photograph whose name says so."""

    def __call__(self, task: dict[str, list[bytes]]) -> dict[str, Any]:
        for name in map(os.fsdecode, task["paths"]):
            if name.startswith("error"):
                raise RuntimeError("a bug")
            mark = Path(self.source.url) / f"{name}.mark"
            if name.startswith("die_once") and not mark.exists():
                mark.touch()
                os._exit(1)
            if name.startswith("die_always"):
                os._exit(1)
        return super().__call__(task)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "max_failures", "error"),
    [
        ("die_once.png", 1, None),
        ("die_always.png", 0, (PhaseFailedError, "lost workers.*the same command goes on")),
        ("error.png", 1, (ray.exceptions.RayTaskError, "a bug")),
    ],
)
def test_a_worker_that_dies_is_replaced_but_not_for_ever_and_a_bug_is_not_tried_again(
    ray_cluster: str,
    tiny_parent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    max_failures: int,
    error: tuple[type[Exception], str] | None,
) -> None:
    monkeypatch.setattr(cluster.parsing.job, "ParseTask", DyingTask)
    fill(str(tmp_path / "in"), ["a.png", name])
    scaling = ScalingConfig(max_failures=max_failures)
    job = settings(tiny_parent, tmp_path / "in", tmp_path / "out", scaling=scaling)
    if error is None:
        assert counts(run_parsing(job)) == (2, 0, 0)
    else:
        with pytest.raises(error[0], match=f"(?s){error[1]}"):
            run_parsing(job)


def test_without_a_name_the_model_is_the_one_that_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.parsing.job, "_parse", lambda *arguments: iter(()))
    fill(str(tmp_path / "in"), ["a.png"])
    run_parsing(ParsingJobConfig(input=str(tmp_path / "in"), out=str(tmp_path / "out")))
    record = json.loads((tmp_path / "out" / "parse.json").read_text())
    content = (SHIPPED_MODEL / "model.pt").read_bytes()
    assert record["model"] == hashlib.sha256(content).hexdigest()


def test_an_output_that_is_not_the_job_s_is_refused(tiny_parent: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    fill(str(source), ["a.png"])
    fill(str(out), ["a.png"])
    with pytest.raises(ValueError, match=r"out holds a\.png, .* no parse\.json says which model"):
        run_parsing(settings(tiny_parent, source, out))
    (out / "parse.json").write_text("{}")
    with pytest.raises(ValueError, match=r"out/parse\.json is damaged; choose another --out"):
        run_parsing(settings(tiny_parent, source, out))
    with pytest.raises(ValueError, match=r"in holds the input .*in, where results would be"):
        run_parsing(settings(tiny_parent, source, source))
    assert {path.name for path in out.iterdir()} == {"a.png", "parse.json"}


def test_photographs_of_another_location_are_refused(tiny_parent: Path, tmp_path: Path) -> None:
    """Theirs would be taken for done, where the names are the same."""
    out = tmp_path / "out"
    for name in ("first", "second"):
        fill(str(tmp_path / name), ["a.png"])
    digest = hashlib.sha256(tiny_parent.read_bytes()).hexdigest()
    record = {"model": digest, "input": str(tmp_path / "first")}
    out.mkdir()
    (out / "parse.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"input: .*/second, was .*/first"):
        run_parsing(settings(tiny_parent, tmp_path / "second", out))


def test_what_cannot_be_parsed_at_all_is_refused(tiny_parent: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    with pytest.raises(ValueError, match=r"there is no folder .*/in$"):
        run_parsing(settings(tiny_parent, source, out))
    assert not out.exists()
    source.mkdir()
    with pytest.raises(ValueError, match=r"in holds no photographs \(.*\.jpg"):
        run_parsing(settings(tiny_parent, source, out))
    fill(str(source), ["a.png"])
    with pytest.raises(ValueError, match="there is no"):
        run_parsing(settings(tmp_path / "gone.pt", source, out))
    with pytest.raises(ValueError, match="--write must be of"):
        run_parsing(settings(tiny_parent, source, out, write="shapes"))


def test_a_model_that_is_not_trained_to_its_end_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    fill(str(tmp_path / "in"), ["a.png"])
    with pytest.raises(ValueError, match="phase coarse, but parsing needs localizer and fine"):
        run_parsing(settings(tiny_model, tmp_path / "in", tmp_path / "out"))
    assert not any((tmp_path / "out").iterdir())
