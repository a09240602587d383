"""Building shards: the sample contract, equal bytes, interruptions, rejects, refusals."""

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds
from PIL import Image

from sharding.manifest import load_manifest
from sharding.packing import writer
from sharding.packing.building import build, make_plan
from sharding.packing.recipe import Recipe
from sharding.packing.sample import measure_parts
from sharding.packing.verify import verify
from sharding.packing.writer import ShardRecord, ShardTask, write_shard
from sharding.storage.location import open_location
from stn_icnn.label_sets import PAPER9

Draw = Callable[..., None]


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def read_back(out: Path, split: str) -> list[dict]:
    shards = sorted(str(path) for path in (out / split).glob("*.tar"))
    return list(wds.WebDataset(shards, shardshuffle=False))


class Killed(BaseException):
    pass


def killed_after(num_shards: int) -> Callable[..., Iterator[ShardRecord]]:
    """Runs tasks as `map` does until so many shards are written."""

    def run(write: Callable, tasks: Sequence[ShardTask]) -> Iterator[ShardRecord]:
        for task in tasks[:num_shards]:
            yield write(task)
        raise Killed

    return run


def test_parts_are_measured_in_pixels_with_centres_at_a_half():
    labels = np.zeros((10, 20), np.uint8)
    labels[2:4, 5:8] = PAPER9.class_id["left_eye"]
    labels[7, 10:12] = PAPER9.class_id["upper_lip"]
    labels[9, 10:12] = PAPER9.class_id["lower_lip"]
    assert measure_parts(labels, PAPER9) == {
        "left_eye": [6.5, 3.0, 5, 2, 8, 4, 6],
        "mouth": [11.0, 8.5, 10, 7, 12, 10, 4],
    }


def test_webdataset_reads_samples_back(celebamask: Path, tmp_path: Path):
    out = tmp_path / "out"
    manifest = build(celebamask, out, Recipe(layout="celebamask", shard_size=4))
    assert manifest.num_samples == {"train": 6, "val": 2, "test": 2}
    assert [shard.samples for shard in manifest.splits["train"]] == [4, 2]
    samples = {split: read_back(out, split) for split in manifest.splits}
    assert {split: len(found) for split, found in samples.items()} == manifest.num_samples
    sample = samples["train"][0]
    info = json.loads(sample["json"])
    number = int(sample["__key__"])
    assert {name: info[name] for name in info if name != "parts"} == {
        "source": f"CelebA-HQ-img/{number}.jpg",
        "dataset": "celebamask",
        "width": 512,
        "height": 512,
        "original_width": 512,
        "original_height": 512,
    }
    assert info["parts"]["left_eye"] == [325.0, 210.0, 300, 200, 350, 220, 1000]
    assert list(info["parts"]) == [
        "left_brow",
        "right_brow",
        "left_eye",
        "right_eye",
        "nose",
        "mouth",
    ]
    labels = Image.open(io.BytesIO(sample["png"]))
    assert (labels.mode, labels.size) == ("L", (512, 512))
    assert measure_parts(np.asarray(labels), PAPER9) == info["parts"]
    counted = sum(
        np.bincount(np.asarray(Image.open(io.BytesIO(sample["png"]))).ravel(), minlength=11)
        for sample in samples["train"]
    )
    assert tuple(counted) == manifest.class_pixels["train"]


def test_unchanged_jpeg_is_copied_and_a_changed_one_is_written_at_444(helen: Path, tmp_path: Path):
    turned = helen / "images/12_1.jpg"
    Image.open(turned).save(turned, "PNG")
    out = tmp_path / "out"
    build(helen, out, Recipe(layout="helen"))
    copied, written = read_back(out, "train")[:2]
    assert copied["jpg"] == (helen / "images/11_1.jpg").read_bytes()
    image = Image.open(io.BytesIO(written["jpg"]))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    assert [sampling[1:3] for sampling in image.layer] == [(1, 1)] * 3


@pytest.mark.parametrize("layout", ["celebamask", "helen"])
def test_same_input_same_bytes(layout: str, tmp_path: Path, request: pytest.FixtureRequest):
    source = request.getfixturevalue(layout)
    build(source, tmp_path / "a", Recipe(layout=layout, shard_size=3))
    moved = source.rename(tmp_path / "moved")
    build(moved, tmp_path / "b", Recipe(layout=layout, shard_size=3))
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert set(first) == {
        "manifest.json",
        "train/000000.tar",
        "train/000001.tar",
        "val/000000.tar",
        "test/000000.tar",
    }
    with tarfile.open(tmp_path / "a/train/000000.tar") as tar:
        owners = {(info.mtime, info.uid, info.gid, info.uname, info.gname) for info in tar}
    assert owners == {(0, 0, 0, "", "")}


def test_interrupted_run_goes_on_with_the_same_bytes(
    celebamask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Stopped within the second shard; the first is not redone."""
    read = writer.LAYOUTS["celebamask"].read
    keys: list[str] = []
    dies_at = 5

    def counting_read(source, item, label_set):
        keys.append(item.key)
        if len(keys) == dies_at:
            raise Killed
        return read(source, item, label_set)

    layout = replace(writer.LAYOUTS["celebamask"], read=counting_read)
    monkeypatch.setitem(writer.LAYOUTS, "celebamask", layout)
    out = tmp_path / "out"
    with pytest.raises(Killed):
        build(celebamask, out, Recipe(layout="celebamask", shard_size=3))
    assert "train/000000.tar" in contents(out)
    assert "train/000001.tar" not in contents(out)
    first_shard = keys[:3]
    with pytest.raises(ValueError, match=r"is unfinished: .* run the command that began it again"):
        load_manifest(out)

    dies_at = 0
    keys.clear()
    build(celebamask, out, Recipe(layout="celebamask", shard_size=3))
    assert len(keys) == 7
    assert not set(first_shard) & set(keys)
    build(celebamask, tmp_path / "straight", Recipe(layout="celebamask", shard_size=3))
    assert contents(out) == contents(tmp_path / "straight")


def test_shard_damaged_during_the_interruption_is_redone(celebamask: Path, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(Killed):
        build(
            celebamask,
            out,
            Recipe(layout="celebamask", shard_size=3),
            map_tasks=killed_after(2),
        )
    (out / "train/000000.tar").write_bytes(b"half")
    (out / "train/000001.tar").unlink()
    left = out / f"train/.000002.tar.{'0f' * 16}.tmp"
    left.write_bytes(b"left by a killed process")
    (out / "notes.txt").write_text("mine")
    build(celebamask, out, Recipe(layout="celebamask", shard_size=3))
    assert not left.exists()
    assert verify(out) == ["notes.txt: not in the manifest"]


def test_finished_data_set_is_left_alone(celebamask: Path, tmp_path: Path):
    out = tmp_path / "out"
    manifest = build(celebamask, out, Recipe(layout="celebamask"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert build(celebamask, out, Recipe(layout="celebamask")) == manifest
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize("settings", [{"shard_size": 3}, {"seed": 1}, {"limit": 5}])
def test_other_settings_are_refused(celebamask: Path, tmp_path: Path, settings: dict):
    finished, begun, foreign = (tmp_path / name for name in ("finished", "begun", "foreign"))
    build(celebamask, finished, Recipe(layout="celebamask"))
    with pytest.raises(ValueError, match="already holds a data set of other items or settings"):
        build(celebamask, finished, Recipe(layout="celebamask", **settings))
    with pytest.raises(Killed):
        build(celebamask, begun, Recipe(layout="celebamask"), map_tasks=killed_after(1))
    with pytest.raises(ValueError, match="unfinished data set of other items or settings"):
        build(celebamask, begun, Recipe(layout="celebamask", **settings))
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"must be empty or new, but holds thesis.txt"):
        build(celebamask, foreign, Recipe(layout="celebamask", **settings))
    assert contents(foreign) == {"thesis.txt": b"mine"}


def test_shards_may_be_written_by_anyone_in_any_order(celebamask: Path, tmp_path: Path):
    def backwards(write: Callable, tasks: Sequence[ShardTask]) -> list[ShardRecord]:
        return [write(task) for task in reversed(tasks)]

    build(celebamask, tmp_path / "a", Recipe(layout="celebamask", shard_size=2))
    build(
        celebamask,
        tmp_path / "b",
        Recipe(layout="celebamask", shard_size=2),
        map_tasks=backwards,
    )
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_bad_images_leave_gaps_and_are_listed(helen: Path, tmp_path: Path):
    """The other shards' bytes do not depend on them."""
    build(helen, tmp_path / "whole", Recipe(layout="helen", shard_size=2))
    (helen / "images/11_1.jpg").write_bytes(b"")
    (helen / "images/21_1.jpg").unlink()
    out = tmp_path / "out"
    manifest = build(helen, out, Recipe(layout="helen", shard_size=2, max_rejected=0.5))
    assert [(r.source, r.reason) for r in manifest.rejected] == [
        ("images/11_1.jpg", "image empty: a file of 0 bytes"),
        ("images/21_1.jpg", "image missing"),
    ]
    assert manifest.num_samples == {"train": 3, "val": 0, "test": 1}
    assert manifest.splits["val"] == ()
    whole, gaps = contents(tmp_path / "whole"), contents(out)
    assert gaps["train/000001.tar"] == whole["train/000001.tar"]
    assert gaps["test/000000.tar"] == whole["test/000000.tar"]
    assert [sample["__key__"] for sample in read_back(out, "train")] == ["12_1", "13_1", "14_2"]
    assert verify(out) == []


def test_too_many_bad_images_fail_and_a_repair_is_seen(helen: Path, tmp_path: Path):
    image = helen / "images/11_1.jpg"
    whole = image.read_bytes()
    image.write_bytes(b"nonsense")
    out = tmp_path / "out"
    with pytest.raises(
        ValueError,
        match=r"1 of 6 items are rejected.*0\.05.*does not decode 1\nrejected images/11_1.jpg: im",
    ):
        build(helen, out, Recipe(layout="helen"))
    image.write_bytes(whole)
    assert build(helen, out, Recipe(layout="helen")).rejected == ()
    assert verify(out) == []


def test_face_without_any_label_is_rejected(helen: Path, tmp_path: Path, draw_helen: Draw):
    nothing = {index: np.zeros((120, 100), np.uint8) for index in range(11)}
    draw_helen(helen, "11_1", maps=nothing)
    manifest = build(helen, tmp_path / "out", Recipe(layout="helen", max_rejected=0.5))
    assert [rejection.reason for rejection in manifest.rejected] == [
        "nothing labelled: all masks are empty, or one covers all others as if inverted"
    ]


def test_limit_takes_its_share_of_every_split(celebamask: Path, tmp_path: Path):
    manifest = build(celebamask, tmp_path / "out", Recipe(layout="celebamask", limit=5))
    assert manifest.num_samples == {"train": 3, "val": 1, "test": 1}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"layout": "lfw"},
            "layout must be one of celebamask, helen, helen-relabeled, lapa, folder, "
            "folder:official, folder:zllrunning, folder:farl, got 'lfw'",
        ),
        ({"shard_size": 0}, "shard_size must be at least 1, got 0"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"known_defects": "mend"}, "known_defects must be drop or keep, got 'mend'"),
        ({"max_rejected": 5}, "max_rejected must be a share from 0 to 1, got 5"),
    ],
)
def test_bad_settings_are_refused(setting: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Recipe(**({"layout": "helen"} | setting))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("gs://bucket/x", "'gs://bucket/x' is no storage location"),
        ("s3://", "'s3://' names no bucket"),
    ],
)
def test_bad_locations_are_refused(helen: Path, out: str, message: str):
    with pytest.raises(ValueError, match=message):
        build(helen, out, Recipe(layout="helen"))


@pytest.mark.slow
def test_from_bucket_to_bucket(helen: Path, tmp_path: Path, bucket: str):
    location = open_location(f"{bucket}/raw")
    for path in open_location(helen).list():
        location.upload((helen / path).open("rb"), path)
    build(f"{bucket}/raw", f"{bucket}/out", Recipe(layout="helen", shard_size=2))
    build(helen, tmp_path / "out", Recipe(layout="helen", shard_size=2))
    remote = open_location(f"{bucket}/out")
    assert {path: remote.read(path) for path in remote.list()} == contents(tmp_path / "out")
    assert verify(f"{bucket}/out") == []


def test_task_is_plain_data(helen: Path, tmp_path: Path):
    """Any process can be given it, and need give back no more than the record."""
    plan = make_plan(helen, tmp_path / "out", Recipe(layout="helen"))
    task = pickle.loads(pickle.dumps(plan.tasks[0]))
    record = pickle.loads(pickle.dumps(write_shard(task)))
    assert record.shard.samples == 4
