"""Joining a Ray cluster, and what is read from inside Ray."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.workers import ray_cluster, ray_internals
from cluster.workers.ray_cluster import KEEP_MEMORY, join_cluster


def test_ray_is_the_version_whose_inside_was_read() -> None:
    """With another one, look at each function of `ray_internals` in Ray's source again."""
    assert ray.__version__ == ray_internals.READ_IN


def test_a_head_that_was_killed_is_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        assert ray_cluster._head_of_this_machine() == address
    assert ray_cluster._head_of_this_machine() is None


def test_variables_of_the_workers_are_not_the_driver_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that the job was submitted with stay as they are."""
    given: dict[str, Any] = {}
    environ = {"PATH": os.environ["PATH"], "MALLOC_TOP_PAD_": "1"}
    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr("cluster.workers.ray_cluster._head_of_this_machine", lambda: None)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **arguments: given.update(arguments))
    join_cluster(KEEP_MEMORY)
    of_workers = given["runtime_env"]["env_vars"]
    assert KEEP_MEMORY.keys() - of_workers.keys() == {"MALLOC_TOP_PAD_"}
    assert KEEP_MEMORY.keys() & environ.keys() == {"MALLOC_TOP_PAD_"}
