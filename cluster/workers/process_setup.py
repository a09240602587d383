"""The first step of each process of a job. It imports little, as Ray's own actors run it too."""

import os

import ray

SETUP_HOOK = "cluster.workers.process_setup.remember"


def remember() -> None:
    """Tells Ray's own tools which cluster this process belongs to.

    The actor that gives back the CPUs of a stopped trial's workers looks for the cluster anew, and
    gives up where a machine has two (another job may have started one): the next trial would wait
    for these CPUs for ever.
    """
    os.environ.setdefault("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
