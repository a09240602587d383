"""The cluster: joining or starting it, and what of it a job takes."""

import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray._private.services import find_bootstrap_address
from ray.autoscaler.sdk import request_resources
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config import ScalingConfig
from cluster.workers.process_setup import SETUP_HOOK

HEAD_TIMEOUT_S = 5.0


KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TOP_PAD_": str(2**26),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}
"""For workers that train or score: glibc then keeps what a step frees for the next one. By default
it gives it back, and each page that is asked for again is cleared and mapped anew."""


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


def join_cluster(worker_env: Mapping[str, str] | None = None) -> bool:
    """Joins the cluster that this job runs in, or one of this machine, or starts a local one.

    Args:
        worker_env: variables of the job's processes on the cluster, not of this one.

    Returns:
        Whether it was there before: then others use it too, and it may grow.
    """
    # Each report of a worker costs up to one interval; the default of 2 s is a fifth of an epoch.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    wanted = {
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # some servers store the framing
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # else each line appears twice
    }
    # Those that the job was submitted with stay: Ray refuses a variable that is given twice.
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    if ray.is_initialized():
        return True
    address = "auto" if os.environ.get("RAY_ADDRESS") else _head_of_this_machine()
    missing |= {k: v for k, v in (worker_env or {}).items() if k not in os.environ}
    runtime_env = {"env_vars": missing, "worker_process_setup_hook": SETUP_HOOK}
    ray.init(address=address or "local", runtime_env=runtime_env)
    return address is not None


def _head_of_this_machine() -> str | None:
    """The address of a cluster that was started here with `ray start`, if it answers.

    Ray's own `auto` also finds the cluster that another job started for itself, which ends with
    that job; and it tries a head that was killed, and left its address behind, for minutes.
    """
    address: str | None = find_bootstrap_address(None)
    if address is None:
        return None
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), HEAD_TIMEOUT_S).close()
    except OSError:
        return None
    return address


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


def require_shared(storage: str) -> None:
    """Refuses a storage folder that some node of the cluster does not see.

    Raises:
        ValueError: naming the nodes.
    """
    if storage.startswith("s3://"):
        return
    probe = Path(storage) / f".probe-{uuid.uuid4().hex}"
    probe.touch()
    try:
        _require_seen(probe, f"storage {storage}")
    finally:
        probe.unlink()


def require_readable(place: str, file: str) -> None:
    """Refuses a data folder that some node of the cluster does not see.

    Raises:
        ValueError: naming the nodes.
    """
    if not place.startswith("s3://"):
        _require_seen(Path(place) / file, f"data {place}")


def _require_seen(path: Path, what: str) -> None:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    seen = [
        _is_there.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(str(path))
        for node in nodes
    ]
    blind = [
        node["NodeManagerAddress"]
        for node, there in zip(nodes, ray.get(seen), strict=True)
        if not there
    ]
    if blind:
        raise ValueError(
            f"{what} is not seen by {', '.join(blind)}: on a cluster of several nodes it must be a "
            "folder that all of them mount, or s3://BUCKET/PREFIX"
        )


@ray.remote(num_cpus=0)
def _is_there(path: str) -> bool:
    return Path(path).exists()
