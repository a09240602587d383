"""The workers that a job takes of the cluster: how many, with which CPUs and GPUs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray.autoscaler.sdk import request_resources

from cluster.config import ScalingConfig


@dataclass(frozen=True)
class WorkerAllocation:
    """What a job takes of the cluster."""

    num_workers: int
    cpus_per_worker: int
    use_gpu: bool
    loader_processes: int

    def __str__(self) -> str:
        gpu = " and a GPU" if self.use_gpu else ""
        return f"{self.num_workers} x {self.cpus_per_worker} CPU{gpu}"


def allocate_workers(scaling: ScalingConfig, most_workers: int, may_grow: bool) -> WorkerAllocation:
    """Settles what is `auto`, and waits until the cluster has it.

    Args:
        scaling: what the user asked for.
        most_workers: that the work keeps busy.
        may_grow: whether resources may come later.

    Raises:
        ValueError: saying what is needed and what there is, at once where nothing can provide it,
            otherwise after `scaling.wait_s`.
    """
    deadline = time.monotonic() + (scaling.wait_s if may_grow else 0)
    asked = False
    try:
        while True:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            allocation = resolve_allocation(scaling, nodes, most_workers)
            if (
                _room(nodes, allocation.cpus_per_worker, allocation.use_gpu)
                >= allocation.num_workers
            ):
                return allocation
            there = ", ".join(f"{n.get('CPU', 0):g} CPUs {n.get('GPU', 0):g} GPUs" for n in nodes)
            if time.monotonic() >= deadline:
                raise ValueError(
                    f"not enough resources: {allocation} needed, the cluster's nodes have {there}; "
                    "add nodes, or lower scaling.num_workers or scaling.cpus_per_worker"
                )
            if not asked:
                asked = True
                waiting = f"waiting up to {scaling.wait_s:g} s for {allocation}; there are {there}"
                print(waiting, flush=True)
                bundle = {
                    "CPU": allocation.cpus_per_worker,
                    **({"GPU": 1} if allocation.use_gpu else {}),
                }
                request_resources(
                    bundles=[bundle] * allocation.num_workers
                )  # the autoscaler hears it
            time.sleep(1)
    finally:
        if asked:
            request_resources(bundles=[])  # it would keep the nodes for good


def resolve_allocation(
    scaling: ScalingConfig, nodes: Sequence[Mapping[str, float]], most_workers: int
) -> WorkerAllocation:
    """Settles what is `auto` for a cluster of nodes with these resources.

    A worker's CPUs lie on one node: its even share is the largest number of which all workers
    still find room.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    use_gpu = gpus > 0 if scaling.use_gpu == "auto" else scaling.use_gpu
    asked = scaling.cpus_per_worker
    if scaling.num_workers != "auto":
        workers = scaling.num_workers
    else:
        fitting = _room(nodes, 1 if asked == "auto" else asked, use_gpu)
        workers = max(1, min(fitting, most_workers))
    if asked != "auto":
        cpus = asked
    else:
        most = max((int(node.get("CPU", 0)) for node in nodes), default=1)
        shares = (k for k in range(most, 0, -1) if _room(nodes, k, use_gpu) >= workers)
        cpus = next(shares, 1)
    if scaling.loader_processes != "auto":
        processes = scaling.loader_processes
    else:
        processes = max(1, cpus - 1) if use_gpu else 0
    return WorkerAllocation(workers, cpus, use_gpu, processes)


def _room(nodes: Sequence[Mapping[str, float]], cpus: int, use_gpu: bool) -> int:
    """How many workers of some CPUs (and a GPU) the nodes hold."""
    by_cpu = [int(node.get("CPU", 0)) // cpus for node in nodes]
    if not use_gpu:
        return sum(by_cpu)
    return sum(min(room, int(node.get("GPU", 0))) for room, node in zip(by_cpu, nodes, strict=True))


def num_concurrent(allocation: WorkerAllocation) -> int:
    """How many such shares the cluster holds at a time."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return _room(nodes, allocation.cpus_per_worker, allocation.use_gpu) // allocation.num_workers
