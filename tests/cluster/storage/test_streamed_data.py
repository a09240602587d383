"""How the training split of a bucket is read: copied to the node, or streamed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cluster.scoring.worker import mean_map_of
from cluster.storage.datasets import ShardedData
from cluster.storage.sharded_faces import read_train_faces
from sharding.storage.location import open_location
from stn_icnn.config import TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.data.epochs import open_epoch
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.data.streaming import StreamedFaces
from stn_icnn.label_sets import PAPER9

Answered = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STN_ICNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def data(shards: Path, bucket: str, cache: Path) -> ShardedData:
    """`shards` in a bucket."""
    place = open_location(f"{bucket}/set")
    for path in open_location(shards).list():
        place.upload((shards / path).open("rb"), path)
    return ShardedData.open(place.url)


def num_bytes(data: ShardedData) -> int:
    return sum(shard.bytes for shards in data.manifest.splits.values() for shard in shards)


def test_what_does_not_fit_the_limit_of_the_cache_is_streamed(
    data: ShardedData, cache: Path, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    def kind() -> type:
        return type(read_train_faces(data, tiny_config, LocalContext()))

    monkeypatch.setenv("STN_ICNN_CACHE_GB", str((num_bytes(data) - 1) / 1e9))
    assert kind() is StreamedFaces
    assert not list(cache.glob("*.tar"))
    monkeypatch.setenv("STN_ICNN_CACHE_GB", str(num_bytes(data) / 1e9))
    assert kind() is ShardedFaces
    assert kind() is ShardedFaces, "what it has copied itself does not count against it"
    (cache / "other.tar").write_bytes(b"of another data set")
    assert kind() is StreamedFaces
    monkeypatch.delenv("STN_ICNN_CACHE_GB")
    assert kind() is ShardedFaces, "the disk has room"
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    assert kind() is StreamedFaces
    monkeypatch.setenv("STN_ICNN_CACHE_GB", "much")
    with pytest.raises(ValueError, match="STN_ICNN_CACHE_GB must be a number of gigabytes"):
        kind()


def test_one_worker_that_lacks_room_makes_all_stream(
    data: ShardedData, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    class BesideFullNode(LocalContext):
        def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
            return tensor + 1

    assert isinstance(read_train_faces(data, tiny_config, BesideFullNode()), StreamedFaces)


def test_streamed_faces_are_the_copied_ones_and_nothing_is_kept(
    data: ShardedData, cache: Path, answered: Answered, tiny_config: TrainConfig
):
    context = LocalContext()
    streamed = read_train_faces(replace(data, reading="stream"), tiny_config, context)
    keys = [
        key for batch in open_epoch(streamed, tiny_config, 0, context).batches for key in batch.keys
    ]
    assert not cache.exists()
    requested = [path for method, path in answered() if method == "GET" and ".tar" in path]
    assert sorted(requested) == [f"/faces/set/{shard.path}" for shard in data.shards("train")]
    copied = read_train_faces(replace(data, reading="copy"), tiny_config, context)
    assert sorted(keys) == sorted(sample.key for sample in copied.samples)
    one, other = (mean_map_of(faces, PAPER9, context) for faces in (streamed, copied))
    assert torch.equal(one, other)


def test_a_shard_with_a_flipped_bit_stops_the_stream_by_name(
    data: ShardedData, tiny_config: TrainConfig
):
    """A bit that harms no picture is found as well."""
    path = data.shards("train")[1].path
    content = bytearray(data.location.read(path))
    content[-1] ^= 1
    data.location.write(path, bytes(content))
    faces = read_train_faces(replace(data, reading="stream"), tiny_config, LocalContext())
    with pytest.raises(ValueError, match=f"shard s3://faces/set/{path} must have .* sha256"):
        list(open_epoch(faces, tiny_config, 0, LocalContext()).batches)


def test_few_faces_are_chosen_from_a_copy(
    data: ShardedData, cache: Path, tiny_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STN_ICNN_CACHE_GB", "0")
    faces = read_train_faces(data, tiny_config, LocalContext(), num_images=3)
    assert isinstance(faces, ShardedFaces)
    assert len(faces) == 3
