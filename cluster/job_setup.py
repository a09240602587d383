"""The start of every job: name, storage and tracking first; the cluster once its data is known."""

import re
import time
import uuid
from dataclasses import dataclass

from cluster.config import LocationsConfig, ScalingConfig
from cluster.storage.datasets import ShardedData
from cluster.storage.job_locations import resolve_storage
from cluster.tracking.tracker import Tracker
from cluster.tracking.tracking_uri import without_password
from cluster.workers.allocation import WorkerAllocation, allocate_workers
from cluster.workers.ray_cluster import KEEP_MEMORY, join_cluster, require_readable, require_shared
from sharding.manifest import MANIFEST
from stn_icnn.storage import StorageLocation


@dataclass(frozen=True)
class JobEnvironment:
    """The name of a job's run, the storage that it has a location in, and its tracker."""

    run_name: str
    storage: StorageLocation
    """The storage of all runs."""
    tracker: Tracker

    @property
    def run_storage(self) -> StorageLocation:
        """The location of this run in the storage."""
        return self.storage.child(self.run_name)


def open_job(locations: LocationsConfig, run_name: str | None, prefix: str) -> JobEnvironment:
    """Resolves a job's storage, connects to its tracking store, and prints both.

    Args:
        locations: the storage and the tracking address that the user gave.
        run_name: the run's name; None: one that no other run has, even of the same second.
        prefix: what such a name begins with, in words.

    Raises:
        ValueError: for a name, storage or tracking address that cannot be used.
        TrackingUnavailableError: where the tracking server is away.
    """
    prefix = re.sub(r"[^A-Za-z0-9._-]+", "-", prefix).lstrip("._-")
    run_name = run_name or f"{prefix}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run_name):
        raise ValueError(
            "run_name must be letters, digits, dots, dashes and underscores, and begin with a "
            f"letter or digit, got {run_name!r}"
        )
    storage = resolve_storage(locations.storage)
    tracker = Tracker.connect(locations.tracking_uri, locations.experiment)
    address = without_password(tracker.uri, tracker.uri)
    print(f"run {run_name}\nstorage {storage.url}\ntracking {address}", flush=True)
    return JobEnvironment(run_name, storage, tracker)


def allocate_job_workers(
    environment: JobEnvironment, data: ShardedData, scaling: ScalingConfig, most_workers: int
) -> WorkerAllocation:
    """Joins the cluster, waits for the job's workers, and prints how many they are.

    Args:
        environment: the job's environment; all nodes must see its storage.
        data: the data set, which all nodes must be able to read.
        scaling: what the user asked for.
        most_workers: how many workers the work keeps busy, where their number is `auto`.

    Raises:
        ValueError: where resources are lacking, or a node does not see storage or data.
    """
    allocation = allocate_workers(scaling, most_workers, may_grow=join_cluster(KEEP_MEMORY))
    require_shared(environment.storage)
    require_readable(data.location, MANIFEST)
    print(f"working on {allocation}", flush=True)
    return allocation
