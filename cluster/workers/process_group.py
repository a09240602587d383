"""The process group of a run's workers, and whether their nodes reach one another at all."""

import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic, sleep
from typing import Any, Final

import ray.train
import torch.distributed as dist
from ray.exceptions import RayTaskError
from ray.train.torch import TorchConfig

from cluster.workers.errors import UnreachableError

JOIN_TIMEOUT_S: Final = 120
"""How long workers wait for one another to form their group, seconds."""
COLLECTIVE_TIMEOUT_S: Final = 1800
"""How long a worker waits in a sum for the others, seconds: one may be uploading a checkpoint to a
bucket that is away."""
LEAVE_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 5.0
REACH_WITHIN_S: Final = 30.0
"""How long nodes that do not reach one another are tried again, seconds: a link may be back."""

PAUSE_S: Final = 1.0
"""The pause between two tries, seconds."""

Address = tuple[str, int]


class CheckedTorchConfig(TorchConfig):
    """Ray Train's set-up of PyTorch, for workers that are first seen to reach one another."""

    def __init__(self) -> None:
        super().__init__(timeout_s=JOIN_TIMEOUT_S)

    @property
    def backend_cls(self) -> type:
        """The class that forms the process group."""
        return _CheckedBackend


class _CheckedBackend(TorchConfig().backend_cls):  # type: ignore[misc]
    """Forms the process group, and dissolves it. It runs in Ray Train's controller."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Forms the group, or says in one line which nodes do not reach which.

        Raises:
            ray.train.ControllerError: with an `UnreachableError`: Ray does not try again.
            ray.train.WorkerGroupError: where the group failed though all nodes reach one another:
                Ray tries again, as after a worker's death.
            ray.exceptions.RayActorError: where a worker died: Ray tries again.
        """
        try:
            require_reachable(worker_group)
            try:
                super().on_start(worker_group, backend_config)
            except RayTaskError as error:
                require_reachable(worker_group)
                line = f"workers could not join their group: {str(error).splitlines()[-1]}"
                raise ray.train.WorkerGroupError(line, {0: error}) from error
            if len(worker_group) > 1:
                worker_group.execute(_allow_long_collectives)
        except BaseException:
            worker_group.shutdown()  # else Ray leaves its CPUs reserved, and has none to try again
            raise

    def on_shutdown(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Dissolves the group where its workers live; they are killed next in any case."""
        leaving = worker_group.execute_async(_leave_group)
        ray.wait(leaving, num_returns=len(leaving), timeout=LEAVE_TIMEOUT_S)


def _allow_long_collectives() -> None:
    # As torchtitan does: the public interface has one timeout for joining and for collectives.
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=COLLECTIVE_TIMEOUT_S))


def _leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def require_reachable(worker_group: Any) -> None:
    """Refuses workers whose nodes do not reach one another, after trying for `REACH_WITHIN_S`.

    Raises:
        ray.train.ControllerError: with an `UnreachableError` that names the nodes.
    """
    if len(worker_group) == 1:
        return
    give_up_at = monotonic() + REACH_WITHIN_S
    with _listening_nodes(worker_group) as nodes:
        while unreached := _unreached_nodes(worker_group, nodes):
            if monotonic() >= give_up_at:
                raise ray.train.ControllerError(UnreachableError(describe_unreached(unreached)))
            sleep(PAUSE_S)  # else a port that refuses at once is knocked at without end


def describe_unreached(unreached: Mapping[str, list[str]]) -> str:
    """Returns the line about nodes that do not reach others, by their addresses."""
    pairs = "; ".join(f"{node} does not reach {', '.join(to)}" for node, to in unreached.items())
    return (
        f"workers can't train together: {pairs}. Every TCP port must be open between the nodes, "
        'at the addresses that Ray has for them: see "When it hangs" in docs/cluster.md'
    )


@contextmanager
def _listening_nodes(worker_group: Any) -> Iterator[dict[int, Address]]:
    """Yields, by the rank of one worker of each node, the address that it listens at."""
    addresses: list[Address] = worker_group.execute(_listen)
    of_nodes: dict[str, int] = {}
    for rank, (host, _) in enumerate(addresses):
        of_nodes.setdefault(host, rank)
    try:
        yield {rank: addresses[rank] for rank in of_nodes.values()}
    finally:
        worker_group.execute_async(_stop_listening)


def _unreached_nodes(worker_group: Any, nodes: Mapping[int, Address]) -> dict[str, list[str]]:
    """Returns, for each node that does not reach some others, the addresses of these."""
    peers = list(nodes.values())
    tries = [worker_group.execute_single_async(rank, _unreached, peers) for rank in nodes]
    found = zip(peers, ray.get(tries), strict=True)
    return {host: missed for (host, _), missed in found if missed}


_open_ports: list[socket.socket] = []
"""A worker's open port, while the others try it."""


def _listen() -> Address:
    """Opens a port of this worker, at its node's address, as Gloo and PyTorch's store do."""
    host = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    port = socket.create_server((host, 0), family=family, backlog=4096)  # nobody needs to accept
    _open_ports.append(port)
    return host, port.getsockname()[1]


def _stop_listening() -> None:
    while _open_ports:
        _open_ports.pop().close()


def _unreached(peers: list[Address]) -> list[str]:
    """Returns the hosts of those addresses that this worker can't connect to."""
    with ThreadPoolExecutor(min(32, len(peers))) as pool:
        reached = list(pool.map(_can_connect, peers))
    return [host for (host, _), is_reached in zip(peers, reached, strict=True) if not is_reached]


def _can_connect(address: Address) -> bool:
    try:
        socket.create_connection(address, CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
