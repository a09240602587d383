"""Which cluster a job joins, and what it takes of clusters of several shapes."""

from dataclasses import replace
from typing import Any

import pytest

from cluster.config import ScalingConfig
from cluster.workers import allocation
from cluster.workers.allocation import WorkerAllocation, allocate_workers, resolve_allocation

LAPTOP = [{"CPU": 8.0}]
TWO_NODES = [{"CPU": 8.0}, {"CPU": 4.0}]
GPU_NODES = [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 9.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("nodes", "scaling", "allocation"),
    [
        (LAPTOP, ScalingConfig(), WorkerAllocation(4, 2, False, 0, 2)),
        (LAPTOP, ScalingConfig(cpus_per_worker=4), WorkerAllocation(2, 4, False, 0, 2)),
        (LAPTOP, ScalingConfig(num_workers=1), WorkerAllocation(1, 8, False, 0, 2)),
        (LAPTOP, ScalingConfig(num_workers=3), WorkerAllocation(3, 2, False, 0, 2)),
        # A worker lies on one node: the cluster's twelve CPUs are of no use to it.
        (TWO_NODES, ScalingConfig(num_workers=1), WorkerAllocation(1, 8, False, 0, 2)),
        (TWO_NODES, ScalingConfig(num_workers=2), WorkerAllocation(2, 4, False, 0, 2)),
        (TWO_NODES, ScalingConfig(num_workers=4), WorkerAllocation(4, 2, False, 0, 2)),
        (GPU_NODES, ScalingConfig(), WorkerAllocation(3, 4, True, 3, 2)),
        (GPU_NODES, ScalingConfig(use_gpu=False), WorkerAllocation(4, 4, False, 0, 2)),
        (
            GPU_NODES,
            ScalingConfig(loader_processes=0, cpus_per_worker=2, max_failures=5),
            WorkerAllocation(3, 2, True, 0, 5),
        ),
        (
            TWO_NODES,
            ScalingConfig(num_workers=6, min_workers=2, cpus_per_worker=4, lost_node_wait_s=9),
            WorkerAllocation(6, 4, False, 0, 2, 2, 9.0),
        ),
    ],
)
def test_auto_is_resolved_for_what_there_is(
    nodes: list[dict[str, float]], scaling: ScalingConfig, allocation: WorkerAllocation
) -> None:
    assert resolve_allocation(scaling, nodes, most_workers=4) == allocation


@pytest.mark.parametrize(
    "scaling", [ScalingConfig(num_workers=9, cpus_per_worker=2), ScalingConfig(use_gpu=True)]
)
def test_what_does_not_fit_is_refused_with_what_there_is(
    scaling: ScalingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"Alive": True, "Resources": node} for node in TWO_NODES]
    monkeypatch.setattr(
        allocation.ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": {}}]
    )
    with pytest.raises(ValueError, match=r"not enough resources: .* have 8 CPUs 0 GPUs, 4 CPUs"):
        allocate_workers(scaling, most_workers=4, may_grow=False)


def test_a_job_that_may_have_fewer_workers_begins_with_those_that_have_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [{"Alive": True, "Resources": node} for node in TWO_NODES]
    monkeypatch.setattr(allocation.ray, "nodes", lambda: nodes)
    scaling = ScalingConfig(num_workers=6, min_workers=3, cpus_per_worker=4)
    found = allocate_workers(scaling, most_workers=9, may_grow=False)
    assert str(found) == "3 to 6 x 4 CPU"
    with pytest.raises(ValueError, match="not enough resources: 4 to 6 x 4 CPU needed"):
        allocate_workers(replace(scaling, min_workers=4), most_workers=9, may_grow=False)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"min_workers": 1}, "scaling.num_workers must be a number, with min_workers"),
        ({"num_workers": 2, "min_workers": 3}, r"scaling.min_workers must be 1 to num_workers \(2"),
        ({"lost_node_wait_s": 0}, "scaling.lost_node_wait_s must be more than 0"),
    ],
)
def test_scaling_that_makes_no_sense_is_refused(scaling: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScalingConfig(**scaling)
