"""How every job begins: its name and places, then, once its input is known, the cluster."""

from dataclasses import dataclass

from cluster.config import LocationsConfig, ScalingConfig
from cluster.storage.datasets import ShardedData
from cluster.storage.locations import resolve_storage
from cluster.tracking.tracker import Tracker
from cluster.training.run_record import require_name
from cluster.workers.allocation import WorkerAllocation, allocate_workers
from cluster.workers.ray_cluster import KEEP_MEMORY, join_cluster, require_readable, require_shared
from sharding.packing.manifest import MANIFEST
from stn_icnn.storage import StorageLocation


@dataclass(frozen=True)
class JobEnvironment:
    """A job's name, where it keeps things, and where it is tracked."""

    run_name: str
    storage: StorageLocation
    tracker: Tracker

    @property
    def run_storage(self) -> StorageLocation:
        """The run's own location in the storage."""
        return self.storage.child(self.run_name)


def open_job(locations: LocationsConfig, run_name: str) -> JobEnvironment:
    """Settles a job's places and prints them.

    Raises:
        ValueError: for a name, storage or tracking address that can't be used.
        TrackingUnavailableError: where the tracking server is away.
    """
    require_name(run_name)
    storage = resolve_storage(locations.storage)
    tracker = Tracker.connect(locations.tracking_uri)
    print(f"run {run_name}\nstorage {storage.url}\ntracking {tracker.uri}", flush=True)
    return JobEnvironment(run_name, storage, tracker)


def join(
    environment: JobEnvironment, data: ShardedData, scaling: ScalingConfig, most_workers: int
) -> WorkerAllocation:
    """Joins the cluster, waits for the job's share of it, and prints that.

    Args:
        places: of the job.
        data: that all nodes must be able to read.
        scaling: what the user asked for.
        most_workers: that the work keeps busy, where the number is `auto`.

    Raises:
        ValueError: where there are not the resources, or a node does not see storage or data.
    """
    allocation = allocate_workers(scaling, most_workers, may_grow=join_cluster(KEEP_MEMORY))
    require_shared(environment.storage)
    require_readable(data.location, MANIFEST)
    print(f"working on {allocation}", flush=True)
    return allocation
