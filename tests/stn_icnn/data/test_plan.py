"""Plans: every copy of every sample once, in an order that only seed and epoch decide."""

from collections import Counter

import pytest

from stn_icnn.data.plan import plan_epoch, plan_evaluation


@pytest.mark.parametrize(("num", "copies", "batch"), [(12, 1, 5), (7, 5, 4), (3, 1, 8), (10, 2, 4)])
def test_an_epoch_has_every_copy_of_every_sample_once(num: int, copies: int, batch: int):
    plan = plan_epoch(num, copies, batch, seed=1, epoch=2)
    seen = Counter((r.index, r.copy) for requests in plan for r in requests)
    assert seen == Counter((i, c) for i in range(num) for c in range(copies))
    assert {r.epoch for requests in plan for r in requests} == {2}
    sizes = [len(requests) for requests in plan]
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-num * copies // batch)


def test_the_order_depends_on_seed_and_epoch_only():
    plan = plan_epoch(50, 1, 8, seed=1, epoch=2)
    assert plan == plan_epoch(50, 1, 8, seed=1, epoch=2)
    order = [r.index for requests in plan for r in requests]
    for seed, epoch in ((2, 2), (1, 3)):
        other = plan_epoch(50, 1, 8, seed, epoch)
        assert [r.index for requests in other for r in requests] != order
    regrouped = plan_epoch(50, 1, 16, seed=1, epoch=2)
    assert [r.index for requests in regrouped for r in requests] == order


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_evaluation_covers_every_sample_once(world_size: int):
    ranks = [plan_evaluation(11, rank, world_size, batch=2) for rank in range(world_size)]
    seen = Counter(r.index for plan in ranks for requests in plan for r in requests)
    assert seen == Counter(range(11))
    assert max(len(requests) for plan in ranks for requests in plan) <= 2
