"""The workers that a job gets from the cluster: how many, with which CPUs and GPUs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray.autoscaler.sdk import request_resources

from cluster.config import ScalingConfig


@dataclass(frozen=True)
class WorkerAllocation:
    """The workers that a job gets, all alike."""

    num_workers: int
    cpus_per_worker: int
    use_gpu: bool
    """Whether each worker has a GPU."""
    loader_processes: int
    """Processes that decode images for each worker."""
    max_failures: int
    """How often a run on them is restarted after a worker's death or exception."""
    min_workers: int | None = None
    """The fewest that a run goes on with; None: all of them."""
    lost_node_wait_s: float = 3600.0
    """How long a run waits for its workers, seconds."""
    resize_interval_s: float = 60.0
    """How often a run that has fewer looks for further ones, seconds."""

    @property
    def resources_per_worker(self) -> dict[str, float]:
        """The resources of a worker, as Ray names them."""
        return {"CPU": self.cpus_per_worker, **({"GPU": 1} if self.use_gpu else {})}

    def __str__(self) -> str:
        gpu = " and a GPU" if self.use_gpu else ""
        least = "" if self.min_workers is None else f"{self.min_workers} to "
        return f"{least}{self.num_workers} x {self.cpus_per_worker} CPU{gpu}"

    @property
    def least_workers(self) -> int:
        """The fewest workers that a run starts with."""
        return min(self.num_workers, self.min_workers or self.num_workers)


def allocate_workers(scaling: ScalingConfig, most_workers: int, may_grow: bool) -> WorkerAllocation:
    """Chooses the workers that the user has left open, and waits until the cluster has room.

    Args:
        scaling: what the user asked for.
        most_workers: how many workers the work keeps busy.
        may_grow: whether the cluster may get further nodes.

    Raises:
        ValueError: naming the resources that are needed and that there are: after `scaling.wait_s`,
            or at once where the cluster cannot grow.
    """
    deadline = time.monotonic() + (scaling.wait_s if may_grow else 0)
    has_requested = False
    try:
        while True:
            nodes = _nodes()
            allocation = resolve_allocation(scaling, nodes, most_workers)
            capacity = _capacity(nodes, allocation.cpus_per_worker, allocation.use_gpu)
            if capacity >= allocation.least_workers:
                return allocation
            found = ", ".join(f"{n.get('CPU', 0):g} CPUs {n.get('GPU', 0):g} GPUs" for n in nodes)
            if time.monotonic() >= deadline:
                raise ValueError(
                    f"not enough resources: {allocation} needed, the cluster's nodes have {found}; "
                    "add nodes, or lower scaling.num_workers or scaling.cpus_per_worker"
                )
            if not has_requested:
                has_requested = True
                waiting = f"waiting up to {scaling.wait_s:g} s for {allocation}; there are {found}"
                print(waiting, flush=True)
                bundle = allocation.resources_per_worker
                request_resources(bundles=[bundle] * allocation.num_workers)  # asks for nodes
            time.sleep(1)
    finally:
        if has_requested:
            request_resources(bundles=[])  # else the autoscaler keeps the nodes for good


def resolve_allocation(
    scaling: ScalingConfig, nodes: Sequence[Mapping[str, float]], most_workers: int
) -> WorkerAllocation:
    """Returns the allocation for a cluster of nodes with these resources.

    A worker's CPUs lie on one node: where their number is `auto`, it is the largest with which all
    workers have room.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    use_gpu = gpus > 0 if scaling.use_gpu == "auto" else scaling.use_gpu
    if scaling.num_workers != "auto":
        workers = scaling.num_workers
    else:
        least_cpus = 1 if scaling.cpus_per_worker == "auto" else scaling.cpus_per_worker
        workers = max(1, min(_capacity(nodes, least_cpus, use_gpu), most_workers))
    if scaling.cpus_per_worker != "auto":
        cpus = scaling.cpus_per_worker
    else:
        most = max((int(node.get("CPU", 0)) for node in nodes), default=1)
        least = scaling.min_workers or workers
        there = min(workers, max(least, _capacity(nodes, 1, use_gpu)))
        fitting = (k for k in range(most, 0, -1) if _capacity(nodes, k, use_gpu) >= there)
        cpus = next(fitting, 1)
    if scaling.loader_processes != "auto":
        processes = scaling.loader_processes
    else:
        processes = max(1, cpus - 1) if use_gpu else 0
    return WorkerAllocation(
        workers,
        cpus,
        use_gpu,
        processes,
        scaling.max_failures,
        scaling.min_workers,
        scaling.lost_node_wait_s,
        scaling.resize_interval_s,
    )


def num_concurrent(allocation: WorkerAllocation) -> int:
    """Returns how many such allocations the cluster has room for at a time."""
    capacity = _capacity(_nodes(), allocation.cpus_per_worker, allocation.use_gpu)
    return max(1, capacity // allocation.num_workers)


def _nodes() -> list[Mapping[str, float]]:
    """Returns the resources of each node of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _capacity(nodes: Sequence[Mapping[str, float]], cpus: int, use_gpu: bool) -> int:
    """Returns how many workers of so many CPUs, and a GPU where they use one, the nodes hold."""
    workers = 0
    for node in nodes:
        by_cpus = int(node.get("CPU", 0)) // cpus
        workers += min(by_cpus, int(node.get("GPU", 0))) if use_gpu else by_cpus
    return workers
