"""Faces that are streamed: each sample once, in equal steps, over stops too."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from stn_icnn.config import AugmentConfig, OptimConfig, TrainConfig
from stn_icnn.context import LocalContext
from stn_icnn.data import stream_plan, streaming
from stn_icnn.data.batch import Batch
from stn_icnn.data.epochs import Epoch, open_epoch
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.data.stream_plan import Leg, Readers, plan_stream
from stn_icnn.data.streaming import StreamedFaces
from stn_icnn.label_sets import PAPER9
from tests.sample_shards import FileShard, members, write_shard

SAMPLES = (9, 3, 7, 1, 8, 6, 5, 9)
"""The numbers of samples of eight shards, 48 together."""
CONFIG = TrainConfig(optim=OptimConfig(global_batch=10), seed=3)


class OneOf(LocalContext):
    """One of several ranks."""

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__()
        self.rank, self.world_size = rank, world_size


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[FileShard]:
    folder = tmp_path_factory.mktemp("streamed")
    written = []
    for number, samples in enumerate(SAMPLES):
        names = {f"face{number}-{i}": members(10 * number + i) for i in range(samples)}
        written.append(FileShard(Path(write_shard(folder / f"{number}.tar", names)), samples))
    return written


@pytest.fixture
def faces(shards: list[FileShard], monkeypatch: pytest.MonkeyPatch) -> StreamedFaces:
    """Their readers hold four samples to draw from."""
    for module in (stream_plan, streaming):
        monkeypatch.setattr(module, "SHUFFLE_BUFFER", 4)
    return StreamedFaces(shards, PAPER9, augment=AugmentConfig(), seed=3)


def epochs_of(
    faces: StreamedFaces | ShardedFaces,
    world_size: int,
    number: int = 0,
    config: TrainConfig = CONFIG,
    num_done: int = 0,
    legs: Sequence[Leg] = (),
    processes: int = 0,
) -> list[Epoch]:
    """The parts of an epoch that so many ranks read."""
    return [
        open_epoch(faces, config, number, OneOf(rank, world_size), processes, num_done, legs)
        for rank in range(world_size)
    ]


def steps(epochs: Sequence[Epoch]) -> Iterator[list[Batch]]:
    """The ranks' shares of each step."""
    return (list(shares) for shares in zip(*(epoch.batches for epoch in epochs), strict=True))


def keys(shares: Sequence[Sequence[Batch]]) -> list[str]:
    return [key for batches in shares for batch in batches for key in batch.keys]


def looks(shares: Sequence[Sequence[Batch]]) -> Counter[tuple[object, ...]]:
    """Key, pixels and augmentation of each sample."""
    return Counter(
        (
            key,
            batch.images[i].float().sum().item(),
            *batch.augmentation.affine[i].flatten().tolist(),
        )
        for batches in shares
        for batch in batches
        for i, key in enumerate(batch.keys)
    )


@pytest.mark.parametrize(("world_size", "processes"), [(2, 0), (3, 0), (5, 0), (2, 2)])
def test_all_ranks_take_equally_many_steps_and_see_each_sample_once(
    faces: StreamedFaces, shards: list[FileShard], world_size: int, processes: int
) -> None:
    """With the augmentation that a sample has in this epoch where shards are copied."""
    config = replace(CONFIG, augment=AugmentConfig(copies=5))
    faces.augment = config.augment
    streamed = list(steps(epochs_of(faces, world_size, 1, config, processes=processes)))
    copied = ShardedFaces([shard.url for shard in shards], PAPER9, config.augment, seed=3)
    expected = epochs_of(copied, 1, 1, config)
    assert [sum(map(len, shares)) for shares in streamed] == list(expected[0].sizes)
    assert all(max(map(len, some)) - min(map(len, some)) <= 1 for some in streamed)
    assert looks(streamed) == looks(list(steps(expected)))


def test_the_order_is_the_epoch_s_and_the_seed_s(faces: StreamedFaces) -> None:
    first = keys(list(steps(epochs_of(faces, 2))))
    assert keys(list(steps(epochs_of(faces, 2)))) == first
    assert keys(list(steps(epochs_of(faces, 2, 1)))) != first
    assert keys(list(steps(epochs_of(faces, 2, config=replace(CONFIG, seed=4))))) != first
    in_shards = [key.partition("-")[0] for key in first]
    assert sum(one != other for one, other in pairwise(in_shards)) > 12, "mixed"
    plans = [plan_stream(SAMPLES, 1, 10, 3, epoch, Readers(1, 0)) for epoch in (0, 0, 1)]
    first, again, other = ([piece.shard for piece in plan.pieces[0]] for plan in plans)
    assert first == again != other


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 3), (3, 1)])
def test_a_stopped_epoch_goes_on_where_no_reader_had_come_to(
    faces: StreamedFaces, shards: list[FileShard], before: int, after: int
) -> None:
    """Nothing comes twice, over two stops; what the readers held is left out."""
    first = epochs_of(faces, before)
    seen = [next(steps(first)) for _ in range(2)]
    legs = first[0].legs(2)
    second = epochs_of(faces, after, num_done=2, legs=legs)
    going_on = steps(second)
    seen.append(next(going_on))
    rest = list(going_on)
    assert len(second[0].sizes) == 3 + len(rest)
    assert [sum(map(len, shares)) for shares in [*seen, *rest]] == list(second[0].sizes)
    assert max(Counter(keys([*seen, *rest])).values()) == 1
    assert len(keys([*seen, *rest])) >= sum(SAMPLES) - 4 * before

    third = epochs_of(faces, before, num_done=3, legs=second[0].legs(3))
    assert max(Counter(keys([*seen, *steps(third)])).values()) == 1


def test_an_epoch_that_was_begun_with_copies_keeps_its_number_of_steps(
    faces: StreamedFaces,
) -> None:
    epoch = epochs_of(faces, 1, num_done=3)[0]
    assert len(epoch.sizes) == 5
    assert len(list(epoch.batches)) == 2


def test_label_maps_of_all_ranks_are_those_of_the_split(
    faces: StreamedFaces, shards: list[FileShard]
) -> None:
    copied = ShardedFaces([shard.url for shard in shards], PAPER9)
    for world_size in (1, 3):
        maps = [m for rank in range(world_size) for m in faces.label_maps(rank, world_size)]
        assert all(
            (one == other).all() for one, other in zip(maps, copied.label_maps(0, 1), strict=True)
        )


@pytest.mark.parametrize("damage", ["cut", "header", "sample", "count", "pixels"])
def test_a_damaged_shard_stops_it_by_name(tmp_path: Path, damage: str) -> None:
    names = {f"face{i}": members(i) for i in range(6)}
    if damage == "sample":
        del names["face3"]["png"]
    if damage == "pixels":
        names["face3"]["jpg"] = b"not a JPEG"
    path = Path(write_shard(tmp_path / "000007.tar", names))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    if damage == "header":
        content[content.index(b"ustar", content.index(b"face4."))] ^= 0xFF
    path.write_bytes(content)
    faces = StreamedFaces([FileShard(path, 7 if damage == "count" else 6)], PAPER9)
    with pytest.raises(ValueError, match=r"shard \S*000007\.tar"):
        list(epochs_of(faces, 1)[0].batches)
