"""Planned batches: the same however many read them, each ready before it is asked for."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from stn_icnn.config import AugmentConfig
from stn_icnn.data.batch import Batch
from stn_icnn.data.loading import load_batches
from stn_icnn.data.plan import Request, plan_epoch, rank_share
from stn_icnn.data.shards import ShardedFaces
from stn_icnn.label_sets import PAPER9
from tests.sample_shards import one_sample

NUM_READERS = (1, 2, 3, 5)
"""Five are more than there are shards."""


Look = tuple[str, tuple[float, ...]]
"""A sample's key and what its augmentation drew."""


def looks(batch: Batch) -> list[Look]:
    draws = [tuple(affine.flatten().tolist()) for affine in batch.augmentation.affine]
    return list(zip(batch.keys, draws, strict=True))


def expected(faces: ShardedFaces, plan: Sequence[Sequence[Request]]) -> list[Counter[Look]]:
    """The looks of each planned batch."""
    return [Counter(looks(faces.__getitems__(batch))) for batch in plan]


def together(
    faces: ShardedFaces, plan: Sequence[Sequence[Request]], num_readers: int, num_processes: int = 0
) -> Iterator[Counter[Look]]:
    """The looks of each global batch, as the readers' shares of it have them."""
    readers = [
        load_batches(faces, rank_share(plan, rank, num_readers), num_processes)
        for rank in range(num_readers)
    ]
    for shares in zip(*readers, strict=True):
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        yield sum((Counter(looks(share)) for share in shares), Counter())


@pytest.mark.parametrize("num_processes", [0, 2])
@pytest.mark.parametrize("num_readers", NUM_READERS)
def test_readers_shares_together_are_the_global_batches(
    twelve: list[str], num_readers: int, num_processes: int
):
    """The same samples with the same augmentation, however many read them, and with what."""
    faces = ShardedFaces(twelve, PAPER9, augment=AugmentConfig(), seed=3)
    plan = plan_epoch(len(faces), 1, 6, seed=3, epoch=1)
    assert list(together(faces, plan, num_readers, num_processes)) == expected(faces, plan)


@pytest.mark.parametrize("after", NUM_READERS)
@pytest.mark.parametrize("before", NUM_READERS)
def test_other_readers_go_on_at_the_very_next_batch(twelve: list[str], before: int, after: int):
    faces = ShardedFaces(twelve, PAPER9, augment=AugmentConfig(), seed=3)
    plan = plan_epoch(len(faces), 2, 6, seed=3, epoch=1)
    wanted = expected(faces, plan)
    for step in range(1, len(plan)):
        stopped = together(faces, plan, before)
        assert [next(stopped) for _ in range(step)] == wanted[:step]
        assert list(together(faces, plan[step:], after)) == wanted[step:]


def test_epochs_and_copies_are_augmented_differently(twelve: list[str]):
    faces = ShardedFaces(twelve, PAPER9, augment=AugmentConfig(), seed=3)
    requests = [Request(0, epoch, copy) for epoch in range(3) for copy in range(3)]
    seeds = {int(faces[request].augmentation.noise_seed) for request in requests}
    assert len(seeds) == 9


def test_loader_processes_read_the_same_and_pass_errors_on(twelve: list[str], tmp_path: Path):
    faces = ShardedFaces(twelve, PAPER9, augment=AugmentConfig(), seed=3)
    plan = plan_epoch(len(faces), 1, 6, seed=3, epoch=0)
    here, there = load_batches(faces, plan), load_batches(faces, plan, num_processes=1)
    for ours, theirs in zip(here, there, strict=True):
        assert ours.keys == theirs.keys
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.augmentation.affine, theirs.augmentation.affine)
    broken = one_sample(tmp_path, jpg=b"not a JPEG")
    for num_processes in (0, 1):
        with pytest.raises(ValueError, match=r"000007\.tar, sample face42"):
            next(load_batches(broken, [[Request(0)]], num_processes=num_processes))


def test_the_next_batch_is_read_while_one_is_used(twelve: list[str]):
    read: list[int] = []
    second_is_read = threading.Event()

    class Watched(ShardedFaces):
        def __getitems__(self, requests: Sequence[Request]) -> Batch:
            batch = super().__getitems__(requests)
            read.append(requests[0].index)
            if len(read) == 2:
                second_is_read.set()
            return batch

    batches = load_batches(Watched(twelve, PAPER9), [[Request(i)] for i in range(4)])
    next(batches)
    assert second_is_read.wait(timeout=60)
    batches.close()
    assert read == [0, 1]  # and no further ahead
