"""Shards of a bucket come to a node once, whole, and as their manifest says, or not at all."""

import errno
import hashlib
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.storage.dataset_shard import DatasetShard
from cluster.storage.datasets import ShardedData
from cluster.storage.shard_cache import fetch_shards
from cluster.storage.sharded_faces import read_faces
from sharding.storage.location import open_location
from stn_icnn.config import TrainConfig

Answered = Callable[[], list[tuple[str, str]]]

ASK = """
import pickle, sys
from cluster.storage.shard_cache import fetch_shards
shards = pickle.loads(bytes.fromhex(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(fetch_shards(shards, quiet=True))
"""

STOP_HALFWAY = """
import pickle, sys
from cluster.storage import dataset_shard, shard_cache
from sharding.storage import s3
dataset_shard.CHUNK_BYTES, s3.READ_AHEAD_BYTES = 1000, (1000, 1000)
read_range = s3.Bucket.read_range
def read_one(*asked):
    if asked[2] > 0:
        print("halfway", flush=True)
        sys.stdin.readline()
    return read_range(*asked)
s3.Bucket.read_range = read_one
shard_cache.fetch_shards(pickle.loads(bytes.fromhex(sys.argv[1])))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STN_ICNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def data(shards: Path, bucket: str) -> ShardedData:
    """`shards` in a bucket."""
    place = open_location(f"{bucket}/set")
    for path in open_location(shards).list():
        place.upload((shards / path).open("rb"), path)
    return ShardedData.open(place.url)


def start(code: str, shards: tuple[DatasetShard, ...]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, pickle.dumps(shards).hex()]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


def tars_requested(answered: Answered) -> Counter[str]:
    return Counter(path for method, path in answered() if method == "GET" and ".tar" in path)


def spoil(data: ShardedData, path: str, change: Callable[[bytes], bytes]) -> None:
    data.location.write(path, change(data.location.read(path)))


def test_shards_are_fetched_whole_and_once(
    data: ShardedData, shards: Path, cache: Path, answered: Answered, capsys
):
    train = data.shards("train")
    paths = fetch_shards(train)
    assert [Path(p).read_bytes() for p in paths] == [(shards / s.path).read_bytes() for s in train]
    assert {Path(p).parent for p in paths} == {cache}
    assert capsys.readouterr().out == "fetched 3 of 3 shards\n"
    assert fetch_shards(train) == paths
    assert capsys.readouterr().out == ""
    assert tars_requested(answered) == {f"/faces/set/{s.path}": 1 for s in train}
    assert not list(cache.glob("*.part"))


def test_what_was_deleted_or_cut_off_in_the_cache_is_fetched_again(
    data: ShardedData, cache: Path, answered: Answered
):
    train = data.shards("train")
    first, second, third = map(Path, fetch_shards(train, quiet=True))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    fetch_shards(train, quiet=True)
    for path in (first, second, third):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    times = tars_requested(answered)
    assert [times[f"/faces/set/{shard.path}"] for shard in train] == [2, 2, 1]


def test_two_processes_that_ask_at_once_fetch_each_shard_once(
    data: ShardedData, cache: Path, answered: Answered
):
    train = data.shards("train")
    asking = [start(ASK, train), start(ASK, train)]
    for process in asking:
        assert process.stdout.readline() == "ready\n"
    for process in asking:
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate(timeout=120)[0] for process in asking]
    assert told == [f"{[str(cache / f'{shard.sha256}.tar') for shard in train]}\n"] * 2
    assert tars_requested(answered) == {f"/faces/set/{shard.path}": 1 for shard in train}


def test_a_killed_download_leaves_nothing_that_is_taken_for_whole(
    data: ShardedData, shards: Path, cache: Path
):
    (shard, *_) = data.shards("train")
    with start(STOP_HALFWAY, (shard,)) as process, ThreadPoolExecutor(1) as pool:
        assert process.stdout.readline() == "halfway\n"
        assert not list(cache.glob("*.tar"))
        waiting = pool.submit(fetch_shards, [shard])  # for the lock, which the kernel gives up
        process.kill()
        (path,) = waiting.result(timeout=120)
    assert Path(path).read_bytes() == (shards / shard.path).read_bytes()
    assert not list(cache.glob("*.part"))


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda tar: tar[:700] + bytes([tar[700] ^ 1]) + tar[701:], r"\d+ of [0-9a-f]{64}"),
        (lambda tar: tar[:700], "700 of"),
        (lambda tar: tar + tar, r"\d+ of"),
    ],
    ids=["another byte", "cut off", "longer"],
)
def test_another_shard_than_the_manifest_s_is_refused_by_name(
    data: ShardedData, cache: Path, change: Callable[[bytes], bytes], got: str
):
    _, shard, _ = data.shards("train")
    spoil(data, shard.path, change)
    expected = (
        rf"shard s3://faces/set/train/000001\.tar must have {shard.bytes} bytes of sha256 "
        rf"{shard.sha256}, as its manifest says, got {got}.*python -m sharding verify s3://faces/set"
    )
    with pytest.raises(ValueError, match=expected):
        fetch_shards(data.shards("train"))
    assert {path.suffix for path in cache.iterdir()} == {".tar", ".lock"}
    assert not (cache / f"{shard.sha256}.tar").exists()


def test_a_shard_that_is_gone_is_named(data: ShardedData, cache: Path):
    data.location.delete("train/000001.tar")
    with pytest.raises(FileNotFoundError, match=r"s3://faces/set/train/000001\.tar"):
        fetch_shards(data.shards("train"))


def test_a_full_disk_names_the_cache_and_its_variable(data: ShardedData, cache: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # the disk takes no more
    try:
        with pytest.raises(OSError, match=f"cannot keep shards in {cache}: .*STN_ICNN_CACHE"):
            fetch_shards(data.shards("train"), quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.suffix for path in cache.iterdir()} == {".lock"}


def test_shards_in_a_folder_are_used_in_place(shards: Path, cache: Path):
    paths = fetch_shards(ShardedData.open(str(shards)).shards("val"))
    assert paths == [str(shards / "val/000000.tar")]
    assert not cache.exists()


def test_shards_in_a_folder_must_have_their_manifest_s_size(shards: Path, cache: Path):
    (shard,) = ShardedData.open(str(shards)).shards("val")
    damaged = replace(shard, bytes=shard.bytes + 1)
    expected = f"shard {shard.url} must have {damaged.bytes} bytes.*got {shard.bytes}: .*verify"
    with pytest.raises(ValueError, match=expected):
        fetch_shards([damaged])
    with pytest.raises(ValueError, match=r"shard .*val/gone\.tar must be there.*got nothing: "):
        fetch_shards([replace(shard, path="val/gone.tar")])


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    """`shards` in a folder that may be damaged."""
    shutil.copytree(shards, tmp_path / "copied")
    return tmp_path / "copied"


@pytest.fixture
def read_shards(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the shards that this process has read whole."""
    names: list[str] = []
    read = DatasetShard.read_checked

    def reading(shard: DatasetShard) -> Iterator[bytes]:
        names.append(shard.path)
        yield from read(shard)

    monkeypatch.setattr(DatasetShard, "read_checked", reading)
    return names


def flip_a_byte(shard: Path) -> None:
    """Changes a pixel of the photograph in its middle."""
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)


def test_a_flipped_byte_in_a_folder_is_refused_by_name(
    copied: Path, cache: Path, tiny_config: TrainConfig
):
    flip_a_byte(copied / "train/000001.tar")
    expected = (
        rf"shard {copied}/train/000001\.tar must have \d+ bytes of sha256 [0-9a-f]{{64}}, as its "
        rf"manifest says, got \d+ of [0-9a-f]{{64}}: `python -m sharding verify {copied}` tells"
    )
    with pytest.raises(ValueError, match=expected):
        read_faces(ShardedData.open(str(copied)), "train", tiny_config)
    unverified = ShardedData.open(str(copied), verify_shards=False)
    assert len(read_faces(unverified, "train", tiny_config)) == 8


def test_shards_in_a_folder_are_checked_once_and_again_when_they_change(
    copied: Path, cache: Path, read_shards: list[str]
):
    train = ShardedData.open(str(copied)).shards("train")
    fetch_shards(train, verify=False)
    assert read_shards == []
    for _ in range(2):
        fetch_shards(train)
        assert sorted(read_shards) == [shard.path for shard in train]
    flip_a_byte(copied / train[1].path)
    with pytest.raises(ValueError, match=train[1].path):
        fetch_shards(train)
    assert len(read_shards) == 4


def test_shards_may_be_read_only(copied: Path, cache: Path, read_shards: list[str]):
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    fetch_shards(ShardedData.open(str(copied)).shards("val"))
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before
    assert read_shards == ["val/000000.tar"]


def test_where_the_cache_is_closed_shards_are_checked_each_time(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_shards: list[str]
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("STN_ICNN_CACHE", str(tmp_path / "file"))  # in which no folder can be made
    for _ in range(2):
        fetch_shards(ShardedData.open(str(copied)).shards("val"))
    assert len(read_shards) == 2


@pytest.fixture
def unsearchable(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of another user, as under HOME=/root in a container."""
    stat = Path.stat

    def refuse(path: Path, **options: bool) -> os.stat_result:
        if path.is_relative_to(cache.parent):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    return cache


def test_a_cache_that_may_not_be_searched_remembers_nothing(
    copied: Path, unsearchable: Path, read_shards: list[str]
):
    (shard,) = ShardedData.open(str(copied)).shards("val")
    for _ in range(2):
        assert fetch_shards([shard]) == [str(copied / shard.path)]
    assert read_shards == [shard.path] * 2


def test_a_bucket_s_shards_need_a_cache_that_may_be_searched(data: ShardedData, unsearchable: Path):
    expected = f"cannot keep shards in {unsearchable}: Permission denied; .*set STN_ICNN_CACHE"
    with pytest.raises(OSError, match=expected):
        fetch_shards(data.shards("val"))


def test_workers_of_a_node_that_ask_at_once_check_each_shard_once(
    copied: Path, cache: Path, read_shards: list[str]
):
    train = ShardedData.open(str(copied)).shards("train")
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(fetch_shards, train, quiet=True) for _ in range(4)]
    assert {tuple(one.result()) for one in asked} == {tuple(shard.url for shard in train)}
    assert sorted(read_shards) == [shard.path for shard in train]


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_shards_must_hold_their_manifest_s_samples(
    where: str, shards: Path, cache: Path, tiny_config: TrainConfig, request
):
    in_bucket = where == "bucket"
    data = request.getfixturevalue("data") if in_bucket else ShardedData.open(str(shards))
    first, *others = data.manifest.splits["train"]
    assert len(read_faces(data, "train", tiny_config)) == 8
    splits = {"train": (replace(first, samples=4), *others)}
    wrong = replace(data, manifest=replace(data.manifest, splits=splits))
    shard = data.location.url_of(first.path)
    expected = f"shard {shard} must hold 4 samples, as its manifest says, got 3: "
    with pytest.raises(ValueError, match=expected):
        read_faces(wrong, "train", tiny_config)
