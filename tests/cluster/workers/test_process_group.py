"""How workers on several nodes meet: over which interface, and what is said where they can't."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import ray

from cluster.workers import process_group, process_setup
from cluster.workers.errors import UnreachableError
from cluster.workers.process_group import require_reachable


@pytest.fixture
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a process whose node has the address 127.0.0.1."""
    environment: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    context = type("Context", (), {"gcs_address": "127.0.0.1:6379"})
    monkeypatch.setattr("ray.get_runtime_context", context)
    return environment


def test_workers_meet_over_the_interface_of_ray_s_address(on_loopback: dict[str, str]) -> None:
    process_setup.set_up()
    assert on_loopback["GLOO_SOCKET_IFNAME"] == "lo"
    assert on_loopback["NCCL_SOCKET_IFNAME"] == "=lo"


def test_an_interface_that_the_user_names_stays(on_loopback: dict[str, str]) -> None:
    on_loopback["GLOO_SOCKET_IFNAME"] = on_loopback["NCCL_SOCKET_IFNAME"] = "ib0"
    process_setup.set_up()
    assert on_loopback["GLOO_SOCKET_IFNAME"] == on_loopback["NCCL_SOCKET_IFNAME"] == "ib0"


def test_an_address_that_no_interface_has_names_none() -> None:
    """As where Ray knows a node by an address that a router translates."""
    assert process_setup.interface_of("192.0.2.200") is None


class Workers:
    """A group of workers in this process, each of a node with a loopback address of its own."""

    def __init__(self, addresses: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses = addresses
        self.here = ""
        monkeypatch.setattr("ray.util.get_node_ip_address", lambda: self.here)
        monkeypatch.setattr("ray.get", lambda results: results)

    def __len__(self) -> int:
        return len(self.addresses)

    def execute_single_async(self, rank: int, function: Callable[..., Any], *given: Any) -> Any:
        self.here = self.addresses[rank]
        return function(*given)

    def execute(self, function: Callable[..., Any], *given: Any) -> list[Any]:
        return [self.execute_single_async(rank, function, *given) for rank in range(len(self))]

    execute_async = execute


def test_nodes_that_reach_one_another_pass_and_no_port_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_reachable(Workers(["127.0.0.1", "127.0.0.2", "127.0.0.2"], monkeypatch))
    assert not process_group._open_ports


def test_one_line_names_the_nodes_that_do_not_reach_which(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(["127.0.0.1", "127.0.0.2", "127.0.0.3"], monkeypatch)
    closed = {("127.0.0.1", "127.0.0.3"), ("127.0.0.3", "127.0.0.1"), ("127.0.0.3", "127.0.0.2")}
    connects = process_group._can_connect
    monkeypatch.setattr(
        process_group,
        "_can_connect",
        lambda address: (workers.here, address[0]) not in closed and connects(address),
    )
    monkeypatch.setattr(process_group, "REACH_WITHIN_S", 0.0)
    with pytest.raises(ray.train.ControllerError) as refused:
        require_reachable(workers)
    error = refused.value.controller_failure
    assert isinstance(error, UnreachableError)
    assert str(error).startswith(
        "workers can't train together: 127.0.0.1 does not reach 127.0.0.3; "
        "127.0.0.3 does not reach 127.0.0.1, 127.0.0.2. Every TCP port must be open"
    )
    assert "\n" not in str(error)
