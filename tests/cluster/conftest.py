"""A Ray cluster that the tests share which need none of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import ray

# A driver that does nothing else: the cluster ends when it does, which is when its input ends.
# `ray start` would write the address where every job of this machine looks for a cluster to join.
HOLD = """
import ray, sys
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def ray_address(s3_server: str) -> Iterator[str]:
    """Of a cluster that reaches the S3 server, with room for two workers, whatever the machine."""
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-c", HOLD]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as holder:
        address = holder.stdout.readline().strip()
        assert address, "the cluster does not start"
        yield address


@pytest.fixture(scope="module")
def joined(ray_address: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """This process in the shared cluster, whose workers get the module's own functions by value."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    ray.cloudpickle.register_pickle_by_value(request.module)
    ray.init(address=ray_address)
    yield ray_address
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(request.module)
