"""Joining a Ray cluster, and what is read from inside Ray."""

import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.ray_logging import WorkerStandardStreamDispatcher

from cluster.config import VERBOSE_ENV
from cluster.workers import ray_cluster, ray_internals
from cluster.workers.ray_cluster import KEEP_MEMORY, join_cluster
from jobs.command_line import take_verbose


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


PREEMPTION = (
    "[2026-11-29 23:40:39,870 E 1 2] core_worker.cc:2465: Actor with class name: "
    "'PreemptionWatcher' and ID: 'fb30' has constructor arguments in the object store"
)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of other processes that Ray prints in this one, once the harmless are hidden."""
    dispatcher = WorkerStandardStreamDispatcher()
    shown: list[str] = []
    dispatcher.add_handler(ray_internals.RAY_PRINTS, lambda data: shown.extend(data["lines"]))
    monkeypatch.setattr("ray._private.ray_logging.global_worker_stdstream_dispatcher", dispatcher)
    monkeypatch.delenv(VERBOSE_ENV, raising=False)
    ray_internals.hide_harmless_lines()
    batch = {"lines": [PREEMPTION, "x.py:3: FutureWarning: y", "ValueError: z"], "pid": 1}
    dispatcher.emit(batch)
    monkeypatch.setenv(VERBOSE_ENV, "1")
    shown.append("verbose")
    dispatcher.emit(batch)
    return shown


def test_harmless_lines_are_hidden_and_errors_are_not(printed: list[str]) -> None:
    assert printed[: printed.index("verbose")] == ["ValueError: z"]


def test_a_verbose_job_shows_all_lines(printed: list[str]) -> None:
    assert PREEMPTION in printed[printed.index("verbose") :]


def test_the_processes_of_a_verbose_job_are_verbose(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    monkeypatch.setattr("cluster.workers.ray_cluster._head_of_this_machine", lambda: None)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **arguments: given.update(arguments))
    assert take_verbose(["helen", "--verbose", "--seed", "3"]) == ["helen", "--seed", "3"]
    join_cluster()
    assert given["runtime_env"]["env_vars"][VERBOSE_ENV] == "1"
    assert given["logging_level"] == logging.INFO
