"""Joins or starts a Ray cluster, and checks that every node of it sees a job's files."""

import logging
import os
import socket
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config import VERBOSE_ENV, is_verbose
from cluster.workers.process_setup import SETUP_HOOK
from cluster.workers.ray_internals import (
    hide_harmless_lines,
    recorded_head_address,
    silence_ray_start,
)
from stn_icnn.storage import Folder, StorageLocation

HEAD_TIMEOUT_S = 5.0

KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TOP_PAD_": str(2**26),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}
"""Environment variables by which glibc keeps the memory that a training step frees for the next
one. By default it returns it to the system, which then clears and maps each page anew."""


def join_cluster(worker_env: Mapping[str, str] | None = None) -> bool:
    """Joins the cluster that this job runs in, or one of this machine, or starts a local one.

    Args:
        worker_env: environment variables of the job's processes on the cluster, not of this one.

    Returns:
        Whether the cluster was there before: then others use it too, and it may grow.
    """
    # Each report of a worker costs up to one interval; the default of 2 s is a fifth of an epoch.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    # Where a node has just died, workers are looked for on it once more, for so long.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "20")
    wanted = {
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # some servers store the framing
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # else each line appears twice
    }
    if not is_verbose():
        wanted["PYTHONWARNINGS"] = "ignore::FutureWarning,ignore::DeprecationWarning"
    if not sys.stderr.isatty():
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    # Those that the job was submitted with stay: Ray refuses a variable that is given twice.
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    if ray.is_initialized():
        return True
    address = "auto" if os.environ.get("RAY_ADDRESS") else _head_of_this_machine()
    missing |= {k: v for k, v in (worker_env or {}).items() if k not in os.environ}
    if is_verbose():
        missing[VERBOSE_ENV] = "1"
    runtime_env = {"env_vars": missing, "worker_process_setup_hook": SETUP_HOOK}
    silence_ray_start()
    level = logging.INFO if is_verbose() else logging.WARNING
    ray.init(address=address or "local", runtime_env=runtime_env, logging_level=level)
    hide_harmless_lines()
    return address is not None


def _head_of_this_machine() -> str | None:
    """Returns the address of a cluster that was started here with `ray start`, if it answers.

    Ray's own `auto` also finds the cluster that another job started for itself, which ends with
    that job; and it tries a head that was killed, and left its address behind, for minutes.
    """
    address: str | None = recorded_head_address()
    if address is None:
        return None
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), HEAD_TIMEOUT_S).close()
    except OSError:
        return None
    return address


def require_shared(storage: StorageLocation) -> None:
    """Refuses a storage folder that some node of the cluster does not see.

    Raises:
        ValueError: naming the nodes.
    """
    if not isinstance(storage, Folder):
        return
    probe = storage.root / f".probe-{uuid.uuid4().hex}"
    probe.touch()
    try:
        _require_seen(probe, f"storage {storage.url}")
    finally:
        probe.unlink()


def require_readable(data: StorageLocation, file: str) -> None:
    """Refuses a data folder that some node of the cluster does not see.

    Raises:
        ValueError: naming the nodes.
    """
    if isinstance(data, Folder):
        _require_seen(data.root / file, f"data {data.url}")


def _require_seen(path: Path, what: str) -> None:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    on_node = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    answers = ray.get(
        [_exists.options(scheduling_strategy=one).remote(str(path)) for one in on_node]
    )
    lacking = [
        node["NodeManagerAddress"]
        for node, exists in zip(nodes, answers, strict=True)
        if not exists
    ]
    if lacking:
        raise ValueError(
            f"{what} is not seen by {', '.join(lacking)}: on a cluster of several nodes it must be "
            "a folder that all of them mount, or s3://BUCKET/PREFIX"
        )


@ray.remote(num_cpus=0)
def _exists(path: str) -> bool:
    return Path(path).exists()
