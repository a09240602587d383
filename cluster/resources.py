"""The cluster: joining or starting it, and what of it a job takes."""

import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config import ScalingConfig


@dataclass(frozen=True)
class Share:
    """What a job takes of the cluster."""

    num_workers: int
    cpus_per_worker: int
    use_gpu: bool
    loader_processes: int

    def __str__(self) -> str:
        gpu = " and a GPU" if self.use_gpu else ""
        return f"{self.num_workers} x {self.cpus_per_worker} CPU{gpu}"


def join_cluster() -> bool:
    """Joins the cluster that this job runs in, or starts a local one.

    Returns:
        Whether it was there before: then others use it too, and it may grow.
    """
    # Each report of a worker costs up to one interval; the default of 2 s is a fifth of an epoch.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    variables = {
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # some servers store the framing
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # else each line appears twice
    }
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    started_here = "RAY_ADDRESS" not in os.environ
    if not ray.is_initialized():
        ray.init(
            runtime_env={"env_vars": {name: os.environ[name] for name in variables}},
            log_to_driver=True,
        )
    return not started_here


def take_share(scaling: ScalingConfig, may_grow: bool) -> Share:
    """Settles what is `auto`, and waits until the cluster has it.

    Raises:
        ValueError: saying what is needed and what there is, at once where nothing can provide it,
            otherwise after `scaling.wait_s`.
    """
    deadline = time.monotonic() + (scaling.wait_s if may_grow else 0)
    told = False
    while True:
        total = ray.cluster_resources()
        share = _settle(scaling, total)
        cpus = share.num_workers * share.cpus_per_worker
        gpus = share.num_workers if share.use_gpu else 0
        if cpus <= total.get("CPU", 0) and gpus <= total.get("GPU", 0):
            return share
        there = f"the cluster has {total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs"
        if time.monotonic() >= deadline:
            raise ValueError(
                f"not enough resources: {share} needed, {there}; add nodes, or lower "
                "scaling.num_workers or scaling.cpus_per_worker"
            )
        if not told:
            print(f"waiting up to {scaling.wait_s:g} s for {share}; {there}", flush=True)
            told = True
        time.sleep(1)


def _settle(scaling: ScalingConfig, total: dict[str, float]) -> Share:
    gpus = int(total.get("GPU", 0))
    use_gpu = gpus > 0 if scaling.use_gpu == "auto" else scaling.use_gpu
    workers = scaling.num_workers
    if workers == "auto":
        workers = max(1, gpus) if use_gpu else 1
    cpus = scaling.cpus_per_worker
    if cpus == "auto":
        cpus = max(1, int(total.get("CPU", 0)) // workers)
    processes = scaling.loader_processes
    if processes == "auto":
        processes = max(1, cpus - 1) if use_gpu else 0
    return Share(workers, cpus, use_gpu, processes)


def require_shared(storage: str) -> None:
    """Refuses a storage folder that some node of the cluster does not see.

    Raises:
        ValueError: naming the nodes.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if storage.startswith("s3://") or len(nodes) < 2:
        return
    probe = Path(storage) / f".probe-{uuid.uuid4().hex}"
    probe.touch()
    try:
        seen = [
            _is_there.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(probe))
            for node in nodes
        ]
        blind = [
            node["NodeManagerAddress"]
            for node, there in zip(nodes, ray.get(seen), strict=True)
            if not there
        ]
    finally:
        probe.unlink()
    if blind:
        raise ValueError(
            f"storage {storage} is not seen by {', '.join(blind)}: on a cluster of several nodes "
            "it must be a folder that all of them mount, or s3://BUCKET/PREFIX"
        )


@ray.remote(num_cpus=0)
def _is_there(path: str) -> bool:
    return Path(path).exists()
