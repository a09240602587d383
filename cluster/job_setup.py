"""How every job begins: name, storage and tracking first; the cluster once its input is known."""

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
    """A run's name, the storage that it has a location in, and its tracking."""

    run_name: str
    storage: StorageLocation
    tracker: Tracker

    @property
    def run_storage(self) -> StorageLocation:
        """The run's own location in the storage."""
        return self.storage.child(self.run_name)


def open_job(locations: LocationsConfig, run_name: str) -> JobEnvironment:
    """Resolves a job's storage, connects to its tracking store, and prints both.

    Args:
        locations: what the user gave.
        run_name: the run's name.

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
