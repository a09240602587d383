"""How every job begins: name, storage and tracking first; the cluster once its input is known."""

import re
import time
import uuid
from dataclasses import dataclass

from cluster.config import LocationsConfig, ScalingConfig
from cluster.storage.datasets import ShardedData
from cluster.storage.locations import resolve_storage
from cluster.tracking.tracker import Tracker
from cluster.workers.allocation import WorkerAllocation, allocate_workers
from cluster.workers.ray_cluster import KEEP_MEMORY, join_cluster, require_readable, require_shared
from sharding.manifest import MANIFEST
from stn_icnn.storage import StorageLocation


@dataclass(frozen=True)
class JobEnvironment:
    """A run's name, the storage that it has a location in, and its tracking."""

    run_name: str
    storage: StorageLocation
    """The storage of all runs."""
    tracker: Tracker

    @property
    def run_storage(self) -> StorageLocation:
        """The run's own location in the storage."""
        return self.storage.child(self.run_name)


def open_job(locations: LocationsConfig, run_name: str | None, prefix: str) -> JobEnvironment:
    """Resolves a job's storage, connects to its tracking store, and prints both.

    Args:
        locations: what the user gave.
        run_name: the run's name, if the user gave one; None: one that no other run has.
        prefix: what such a name begins with.

    Raises:
        ValueError: for a name, storage or tracking address that can't be used.
        TrackingUnavailableError: where the tracking server is away.
    """
    run_name = run_name or _new_run_name(prefix)
    _require_run_name(run_name)
    storage = resolve_storage(locations.storage)
    tracker = Tracker.connect(locations.tracking_uri)
    print(f"run {run_name}\nstorage {storage.url}\ntracking {tracker.uri}", flush=True)
    return JobEnvironment(run_name, storage, tracker)


def _new_run_name(prefix: str) -> str:
    """Returns a name that no other run has, not even one that is started in the same second."""
    return f"{prefix}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"


def _require_run_name(run_name: str) -> None:
    """Refuses a run name that can't name a folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run_name):
        raise ValueError(
            "run_name must be letters, digits, dots, dashes and underscores, and begin with a "
            f"letter or digit, got {run_name!r}"
        )


def allocate_job_workers(
    environment: JobEnvironment, data: ShardedData, scaling: ScalingConfig, most_workers: int
) -> WorkerAllocation:
    """Joins the cluster, waits for the workers that the job takes, and prints how many they are.

    Args:
        environment: the job's; all nodes must see its storage.
        data: the data set, which all nodes must be able to read.
        scaling: what the user asked for.
        most_workers: the most workers that the work has use for, where their number is `auto`.

    Raises:
        ValueError: where there are not the resources, or a node does not see storage or data.
    """
    allocation = allocate_workers(scaling, most_workers, may_grow=join_cluster(KEEP_MEMORY))
    require_shared(environment.storage)
    require_readable(data.location, MANIFEST)
    print(f"working on {allocation}", flush=True)
    return allocation
