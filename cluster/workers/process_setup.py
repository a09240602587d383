"""The first step of each process of a job. It imports little, as Ray's own actors run it too."""

import os
from typing import Final

import ray

SETUP_HOOK: Final = "cluster.workers.process_setup.set_up"


def set_up() -> None:
    """Tells Ray's own tools which cluster this process belongs to, and workers how to meet.

    The actor that gives back the CPUs of a stopped trial's workers looks for the cluster anew, and
    gives up where a machine has two (another job may have started one): the next trial would wait
    for these CPUs for ever.

    Gloo and NCCL use the network interface that Ray uses, unless the user names others. Of
    themselves Gloo takes the address that the machine's own name resolves to, which on Debian and
    Ubuntu is 127.0.1.1: workers on other machines can't connect to it. NCCL takes any interface.
    """
    os.environ.setdefault("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    interface = interface_of(ray.util.get_node_ip_address())
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")  # "=": not by its beginning


def interface_of(address: str) -> str | None:
    """Returns the network interface of this machine that has an address; None: no one has."""
    import psutil  # which Ray brings along, on a path that it adds

    for name, addresses in psutil.net_if_addrs().items():
        if address in (one.address.partition("%")[0] for one in addresses):
            return str(name)
    return None
